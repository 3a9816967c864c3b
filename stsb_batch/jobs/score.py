"""The scoring job: score shard by shard and commit each. The command line and the flows call these functions."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from stsb_batch.errors import BadDataError, BadFileError, CannotCreateError, StsbBatchError, shown
from stsb_batch.jobs.finish import ScoreOutcome, check_row_budget, finish_job
from stsb_batch.jobs.plan import ScorePlan, ScoreRequest, plan_score, read_names
from stsb_batch.jobs.scorer import open_scorer
from stsb_batch.jobs.watchdog import watchdog
from stsb_batch.pairs import sink, source
from stsb_batch.pairs.quarantine import RowQuarantine, side_path
from stsb_batch.pairs.schema import CONTRACT_VERSION, METADATA_PREFIX, STATUSES, Columns, output_schema, status_array
from stsb_batch.pairs.source import BadFile, Shard
from stsb_batch.report.sketch import Sketch, sketch_rows
from stsb_batch.scoring.pipeline import PairScorer, ScoredPairs

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
    """Score one shard and commit its file; returns rows, bytes, SHA-256 and footer entries of what was committed.

    Raises `BadFileError` when the input is not what was planned, and `BadDataError` when its bad rows end the run.
    """
    request, columns = plan.request, plan.request.columns
    schema = output_schema(shard.source.schema, columns)
    sketch, started = Sketch(), time.perf_counter()
    with watchdog(request.settings.stall_seconds) as alive, sink.staged_file(plan.target, shard.output) as staged:

        def advance(rows: int, tokens: int) -> None:
            alive()
            if progress:
                progress(rows, tokens)

        scorer = plan_scorer(plan)
        with sink.shard_writer(staged, schema) as writer, RowQuarantine(shard, staged) as quarantine:
            for window in source.read_windows(shard, read_names(request, shard.source.schema)):
                rows, began = window.rows, time.perf_counter()
                scored = scorer.score(rows.column(columns.left), rows.column(columns.right), advance)
                sketch = sketch.merge(_sketch(scored, time.perf_counter() - began))
                _judge_bad_rows(plan, shard, scored, window, sketch)
                out = _scored_batch(rows, scored, columns, schema)
                if request.on_bad_row == "quarantine":
                    bad = np.isnan(scored.scores)
                    quarantine.add(rows, bad, scored.statuses, window.first_row)
                    out = out.filter(pa.array(~bad))
                writer.write_batch(out)
            writer.add_key_value_metadata(_footer(plan, shard, sketch, quarantine.rows))
        if sketch.rows != shard.rows:
            raise StsbBatchError(f"bug: {shard.output}: {sketch.rows} rows out of {shard.rows}; nothing was committed.")
        source.check_unchanged(shard.source)
        quarantine.commit(side_path(plan.target, shard.output))
        result = sink.commit(staged, plan.target.path(shard.output))
    log.info("%s: %d rows in %.1f s", shown(shard.output), sketch.rows, time.perf_counter() - started)
    return result


def score_or_reject(plan: ScorePlan, shard: Shard, progress: Progress | None = None) -> dict | BadFile:
    """Score one shard; a file that turns out bad is returned as such, unless bad files end the run."""
    try:
        return score_shard(plan, shard, progress)
    except BadFileError as error:
        if plan.target.single or plan.request.on_bad_file == "fail":
            raise
        log.error("%s", error)
        return BadFile(shard.source.relative, error)


def _sketch(scored: ScoredPairs, seconds: float) -> Sketch:
    return sketch_rows(
        scored.scores, scored.statuses, scored.lengths, distinct=scored.distinct, gaps=scored.gaps, seconds=seconds
    )


def _scored_batch(rows: pa.RecordBatch, scored: ScoredPairs, columns: Columns, schema: pa.Schema) -> pa.RecordBatch:
    """Put score and status behind the kept columns."""
    kept = [rows.column(i) for i, name in enumerate(rows.schema.names) if columns.keep is None or name in columns.keep]
    score = pa.array(scored.scores, pa.float32(), from_pandas=True)  # NaN, which no scored row has, becomes null
    return pa.RecordBatch.from_arrays([*kept, score, status_array(scored.statuses)], schema=schema)


def _judge_bad_rows(plan: ScorePlan, shard: Shard, scored: ScoredPairs, window: source.Window, sketch: Sketch) -> None:
    """Raise `BadDataError` for the first bad row when asked to, and when a shard alone breaks the run's budget."""
    name, bad = shown(shard.source.relative), np.flatnonzero(np.isnan(scored.scores))
    if len(bad) and plan.request.on_bad_row == "fail":
        row = shard.first_row + window.first_row + int(bad[0])
        raise BadDataError(
            f"{name}: row {row:,} (from 0) is {STATUSES[scored.statuses[bad[0]]]}; nothing of the file was committed. "
            "Mend the row, or let such rows pass with --on-bad-row keep or quarantine."
        )
    check_row_budget(plan, sketch, f"{name}: ")


def _footer(plan: ScorePlan, shard: Shard, sketch: Sketch, quarantined: int) -> dict[str, str]:
    entries = {
        "contract": str(CONTRACT_VERSION),
        "run_id": plan.run_id,
        "run_at": plan.started.isoformat(timespec="seconds"),
        "fingerprint": shard.fingerprint,
        "model": plan.checkpoint.name,
        "model_digest": plan.checkpoint.digest,
        "model_path": str(plan.checkpoint.path),
        "max_length": str(plan.max_length),
        "columns": json.dumps(asdict(plan.request.columns)),
        "rows": str(shard.rows - quarantined),
        "engine": plan.choice.engine,
        "precision": plan.choice.precision,
        "input": json.dumps(shard.source.identity() | {"row_groups": shard.row_groups}),
        "quarantined": str(quarantined),
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
        scored = {shard.output: score_or_reject(plan, shard, progress) for shard in pending}
        return finish_job(plan, scored)
