"""The scoring job: score what is not committed yet, then report. The command line and the flows call these functions."""

import contextlib
import logging
from collections.abc import Callable, Iterator

from stsb_batch.pairs import sink
from stsb_batch.pairs.source import Shard
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.finish import ScoreOutcome, finish_job, withdraw_file
from stsb_batch.scoring.history import open_history
from stsb_batch.scoring.monitor import RunMonitor
from stsb_batch.scoring.plan import ScorePlan, plan_score
from stsb_batch.scoring.shards import OpenScorer, score_shards
from stsb_batch.scoring.spec import ScoreSpec, ShardResult

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


def check_result(plan: ScorePlan, result: ShardResult) -> ShardResult:
    """Return a shard's result; a bad file that ends the run is withdrawn, and its error raised."""
    if result.bad_file:
        if plan.target.single or plan.request.on_bad_file == "fail":
            withdraw_file(plan, result.bad_file.relative)
            raise result.bad_file.error
        log.error("%s", result.bad_file.error)
    return result


def score_dataset(
    request: ScoreRequest,
    *,
    on_progress: Callable[[RunMonitor], None] | None = None,
    open_scorer: OpenScorer = ScoreSpec.open_scorer,
) -> ScoreOutcome:
    """Score everything at `request.location` in this process, and report.

    `on_progress(monitor)` is called when it is known what is to be done, before the model loads, and after each batch. A
    shard that an earlier run has committed is not touched.
    """
    plan = plan_score(request)
    with open_job(plan) as pending:
        monitor = RunMonitor(sum(shard.rows for shard in pending), on_progress)
        with contextlib.closing(score_shards(plan.spec, pending, monitor, open_scorer=open_scorer)) as results:
            return finish_job(plan, [check_result(plan, result) for result in results])
