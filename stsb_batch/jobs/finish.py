"""The end of a scoring job: reconcile, report, manifest, `_SUCCESS`."""

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.durable import replace_durably
from stsb_batch.errors import StsbBatchError, storage_error
from stsb_batch.jobs.plan import ScorePlan
from stsb_batch.pairs import sink, source
from stsb_batch.pairs.schema import CONTRACT_VERSION, LABEL_RANGE, find_label, output_schema
from stsb_batch.report.sketch import Sketch
from stsb_batch.report.table import RunFacts, build_report, write_report

WARN_BAD_ROWS = 0.01  # share of rows without a score that a run may have before its exit code says so
MANY_BAD_ROWS = 10


@dataclass(frozen=True)
class ScoreOutcome:
    """A finished job: where its files are, its report, and how much was done now or had been done before."""

    target: sink.Target
    report: pl.DataFrame
    rows: int
    shards: int
    shards_scored: int
    bad_rows: int
    seconds: float

    def exit_code(self, warn_bad_rows: float = WARN_BAD_ROWS) -> int:
        """Return 10 when the share of rows without a score is above the warn limit, else 0."""
        return MANY_BAD_ROWS if self.bad_rows > warn_bad_rows * self.rows else 0


def finish_job(plan: ScorePlan, scored: dict[Path, dict]) -> ScoreOutcome:
    """Reconcile, write report, manifest and `_SUCCESS`. `scored` holds what `score_shard` returned, by output name."""
    results = {
        shard.output: scored.get(shard.output) or sink.committed(plan.target.path(shard.output)) for shard in plan.shards
    }
    rows = sum(result["rows"] for result in results.values())
    if rows != plan.rows:
        raise StsbBatchError(f"bug: {plan.rows} rows in, {rows} rows out; the run is not marked as done.")
    sketch = Sketch()
    for result in results.values():
        sketch = sketch.merge(Sketch(**json.loads(result["footer"]["sketch"])))
    seconds = (dt.datetime.now(dt.UTC) - plan.started).total_seconds()
    stale = sink.stale_files(plan.target, plan.shards)
    if stale or not _is_finished(plan):
        report = build_report(run_facts(plan), sketch, **_labelled(plan), wall_seconds=seconds)
        _write_report(plan, report)
        sink.finish_commits(plan.target, _manifest(plan, results), stale)
    report = pl.read_parquet(plan.target.report, memory_map=False)
    return ScoreOutcome(plan.target, report, rows, len(plan.shards), len(scored), rows - sketch.scored, seconds)


def _is_finished(plan: ScorePlan) -> bool:
    """Say whether the report is at least as new as every output file, and the folder is marked as complete."""
    target = plan.target
    if not target.report.is_file() or not (target.single or (target.root / "_SUCCESS").is_file()):
        return False
    written = target.report.stat().st_mtime_ns
    return all(target.path(shard.output).stat().st_mtime_ns <= written for shard in plan.shards)


def run_facts(plan: ScorePlan) -> RunFacts:
    return RunFacts(
        run_id=plan.run_id,
        run_at=plan.started,
        dataset=Path(plan.request.location).name,
        model=plan.checkpoint.name,
        model_digest=plan.checkpoint.digest,
        engine=plan.choice.engine,
        precision=plan.choice.precision,
    )


def _labelled(plan: ScorePlan) -> dict:
    """Read labels from the input and scores from the output, row by row the same; nothing where no file has a label."""
    parts, columns = [], plan.request.columns
    for shard in plan.shards:
        label = find_label(shard.source.schema, columns)
        if label is None:
            continue
        labels = [window.rows.column(label).cast(pa.float32()) for window in source.read_windows(shard, [label])]
        scores = pq.ParquetFile(plan.target.path(shard.output)).read([columns.score])[columns.score]
        parts.append(pl.DataFrame({"label": pa.chunked_array(labels, pa.float32()), "score": scores}))
    if not parts:
        return {}
    frame = pl.concat(parts)
    usable = frame.filter(
        pl.col("label").is_between(*LABEL_RANGE) & pl.col("label").is_not_nan() & pl.col("score").is_not_null()
    )
    unusable = frame.filter(~pl.col("label").is_between(*LABEL_RANGE).fill_null(False) | pl.col("label").is_nan())
    return {"labelled": usable, "left_out": unusable.height}


def _write_report(plan: ScorePlan, report: pl.DataFrame) -> None:
    """Put the report beside the output, and a copy into the history that reads as one table."""
    history = plan.request.settings.home / "reports" / f"{plan.started:%Y%m%dT%H%M%S}-{plan.run_id[:8]}.parquet"
    for final in (plan.target.report, history):
        staged = final.with_name(f".{final.name}.inprogress")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            write_report(report, staged)
            replace_durably(staged, final)
        except OSError as error:
            raise storage_error(error, "writing the report", final) from error
        finally:
            staged.unlink(missing_ok=True)


def _manifest(plan: ScorePlan, results: dict[Path, dict]) -> dict:
    files = [
        {
            "path": str(shard.output),
            "rows": results[shard.output]["rows"],
            "bytes": results[shard.output]["bytes"],
            "sha256": results[shard.output]["sha256"],
            "fingerprint": shard.fingerprint,
            "input": shard.source.identity() | {"row_groups": list(shard.row_groups)},
            "schema": {field.name: str(field.type) for field in output_schema(shard.source.schema, plan.request.columns)},
        }
        for shard in plan.shards
    ]
    columns = plan.request.columns
    return {
        "contract": CONTRACT_VERSION,
        "run_id": plan.run_id,
        "run_at": plan.started.isoformat(timespec="seconds"),
        "model": plan.checkpoint.name,
        "model_digest": plan.checkpoint.digest,
        "engine": str(plan.choice),
        "max_length": plan.max_length,
        "columns": {"left": columns.left, "right": columns.right, "keep": columns.keep, "score": columns.score},
        "rows": sum(file["rows"] for file in files),
        "files": files,
    }
