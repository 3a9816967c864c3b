"""The scoring job: score shard by shard and commit each. The command line and the flows call these functions."""

import contextlib
import logging
from collections.abc import Callable, Iterator

from stsb_batch.errors import BadFileError
from stsb_batch.inference.pipeline import Progress
from stsb_batch.inference.scorer import open_scorer
from stsb_batch.pairs import sink
from stsb_batch.pairs.source import BadFile, Shard
from stsb_batch.scoring.finish import ScoreOutcome, finish_job, withdraw_file
from stsb_batch.scoring.history import open_history
from stsb_batch.scoring.plan import ScorePlan, ScoreRequest, plan_score
from stsb_batch.scoring.shard import score_shard
from stsb_batch.scoring.stream import Line

log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_job(plan: ScorePlan) -> Iterator[list[Shard]]:
    """Hold the output for this run and give the shards that still need scoring."""
    sink.pending_shards(plan.target, plan.shards, overwrite=plan.request.overwrite)  # refuse before anything is made
    open_history(plan.request.settings.home)
    with sink.open_target(plan.target):
        pending = sink.pending_shards(plan.target, plan.shards, overwrite=plan.request.overwrite)
        if pending:
            sink.begin_commits(plan.target)
        yield pending


def open_line(plan: ScorePlan, shards: list[Shard]) -> Line:
    """Return the line that shards of a job go through, with the scorer that the plan asks for."""
    settings = plan.request.settings
    return Line(
        plan,
        shards,
        lambda: open_scorer(
            plan.checkpoint,
            plan.choice,
            max_length=plan.max_length,
            max_tokens=settings.max_tokens,
            fixed_shapes=settings.fixed_shapes,
            cache=settings.home / "cache",
            parity=plan.request.parity,
        ),
    )


def score_or_reject(line: Line, shard: Shard, progress: Progress | None = None) -> dict | BadFile:
    """Score one shard; a file that turns out bad is returned as such, unless bad files end the run."""
    plan = line.plan
    try:
        return score_shard(line, shard, progress)
    except BadFileError as error:
        if plan.target.single or plan.request.on_bad_file == "fail":
            withdraw_file(plan, shard.source.relative)
            raise
        log.error("%s", error)
        return BadFile(shard.source.relative, error)


def score_dataset(
    request: ScoreRequest, *, on_plan: Callable[[ScorePlan, int], None] | None = None, progress: Progress | None = None
) -> ScoreOutcome:
    """Score everything at `request.location`, shard after shard, in this process.

    `on_plan(plan, pending_rows)` hears once what is to be done, before the model loads. A shard that an earlier run has
    committed is not touched.
    """
    plan = plan_score(request)
    with open_job(plan) as pending, open_line(plan, pending) as line:
        if on_plan:
            on_plan(plan, sum(shard.rows for shard in pending))
        scored = {shard.output: score_or_reject(line, shard, progress) for shard in pending}
        return finish_job(plan, scored)
