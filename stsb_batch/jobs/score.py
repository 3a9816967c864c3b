"""The scoring job: score shard by shard and commit each. The command line and the flows call these functions."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator

import pyarrow as pa

from stsb_batch.errors import CannotCreateError, StsbBatchError
from stsb_batch.jobs.finish import ScoreOutcome, finish_job
from stsb_batch.jobs.plan import ScorePlan, ScoreRequest, plan_score
from stsb_batch.jobs.scorer import open_scorer
from stsb_batch.pairs import sink, source
from stsb_batch.pairs.schema import CONTRACT_VERSION, METADATA_PREFIX, kept_names, output_schema, status_array
from stsb_batch.pairs.source import Shard
from stsb_batch.report.sketch import Sketch, sketch_rows
from stsb_batch.scoring.pipeline import PairScorer

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # rows, tokens done since the last call


@contextlib.contextmanager
def open_job(plan: ScorePlan) -> Iterator[list[Shard]]:
    """Hold the output for this run and give the shards that still need scoring."""
    sink.pending_shards(plan.target, plan.shards, overwrite=plan.request.overwrite)  # refuse before anything is made
    with sink.open_target(plan.target):
        pending = sink.pending_shards(plan.target, plan.shards, overwrite=plan.request.overwrite)
        _refuse_stale(plan)
        if pending:
            sink.begin_commits(plan.target)
        yield pending


def _refuse_stale(plan: ScorePlan) -> None:
    stale = sink.stale_files(plan.target, plan.shards)
    if stale and not plan.request.overwrite:
        raise CannotCreateError(
            f"{stale[0]}: belongs to another plan ({len(stale)} such files in {plan.target.root}). "
            "Choose another place with -o, or replace the output with --overwrite."
        )


def plan_scorer(plan: ScorePlan) -> PairScorer:
    """Open the scorer that a plan asks for."""
    settings = plan.request.settings
    return open_scorer(
        plan.checkpoint,
        plan.choice,
        max_length=plan.max_length,
        max_tokens=settings.max_tokens,
        cache=settings.home / "cache",
    )


def score_shard(plan: ScorePlan, shard: Shard, progress: Progress | None = None) -> dict:
    """Score one shard and commit its file; returns rows, bytes, SHA-256 and footer entries of what was committed."""
    scorer, columns = plan_scorer(plan), plan.request.columns
    schema = output_schema(shard.source.schema, columns)
    names = None
    if columns.keep is not None:
        names = list(dict.fromkeys([*kept_names(shard.source.schema, columns), columns.left, columns.right]))
    sketch, started = Sketch(), time.perf_counter()
    with sink.staged_file(plan.target, shard.output) as staged:
        with sink.shard_writer(staged, schema) as writer:
            for window in source.read_windows(shard, names):
                began = time.perf_counter()
                rows = window.rows
                scored = scorer.score(rows.column(columns.left), rows.column(columns.right), progress)
                kept = [
                    rows.column(i)
                    for i, name in enumerate(rows.schema.names)
                    if columns.keep is None or name in columns.keep
                ]
                score = pa.array(scored.scores, pa.float32(), from_pandas=True)  # NaN, which no scored row has, becomes null
                writer.write_batch(pa.RecordBatch.from_arrays([*kept, score, status_array(scored.statuses)], schema=schema))
                sketch = sketch.merge(
                    sketch_rows(
                        scored.scores,
                        scored.statuses,
                        scored.lengths,
                        distinct=scored.distinct,
                        gaps=scored.gaps,
                        seconds=time.perf_counter() - began,
                    )
                )
            writer.add_key_value_metadata(_footer(plan, shard, sketch))
        if sketch.rows != shard.rows:
            raise StsbBatchError(f"bug: {shard.output}: {sketch.rows} rows out of {shard.rows}; nothing was committed.")
        source.check_unchanged(shard.source)
        result = sink.commit(staged, plan.target.path(shard.output))
    log.info("%s: %d rows in %.1f s", shard.output, sketch.rows, time.perf_counter() - started)
    return result


def _footer(plan: ScorePlan, shard: Shard, sketch: Sketch) -> dict[str, str]:
    entries = {
        "contract": str(CONTRACT_VERSION),
        "run_id": plan.run_id,
        "run_at": plan.started.isoformat(timespec="seconds"),
        "fingerprint": shard.fingerprint,
        "model": plan.checkpoint.name,
        "model_digest": plan.checkpoint.digest,
        "engine": plan.choice.engine,
        "precision": plan.choice.precision,
        "input": json.dumps(shard.source.identity() | {"row_groups": shard.row_groups}),
        "sketch": json.dumps(sketch.to_json(), separators=(",", ":")),
    }
    return {METADATA_PREFIX + key: value for key, value in entries.items()}


def score_dataset(
    request: ScoreRequest, *, on_plan: Callable[[ScorePlan, int], None] | None = None, progress: Progress | None = None
) -> ScoreOutcome:
    """Score everything at `request.location`, shard after shard, in this process.

    `on_plan(plan, pending_rows)` hears once what is to be done, before the model loads. A shard that an earlier run has
    committed is not touched.
    """
    plan = plan_score(request)
    with open_job(plan) as pending:
        if on_plan:
            on_plan(plan, sum(shard.rows for shard in pending))
        scored = {shard.output: score_shard(plan, shard, progress) for shard in pending}
        return finish_job(plan, scored)
