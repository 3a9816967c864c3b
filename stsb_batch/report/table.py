"""The report: one tidy table with a row per figure, written as Parquet, and look-ups in it."""

import datetime as dt
import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from stsb_batch.pairs.schema import METADATA_PREFIX
from stsb_batch.report.drift import DriftFigure
from stsb_batch.report.metrics import METRICS, Estimate, regression_metrics
from stsb_batch.report.sketch import Sketch

SCHEMA = pl.Schema(
    {
        "run_id": pl.String(),
        "run_at": pl.Datetime("us", "UTC"),
        "dataset": pl.String(),
        "slice": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "rows": pl.Int64(),
        "model": pl.String(),
        "model_digest": pl.String(),
    }
)
QUANTILES = {"min": 0.0, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True)
class RunFacts:
    """The facts of a run that its report repeats in every row, and counts that its rows do not give.

    `bad_files` maps file reason -> files left out. `duplicate_files` are further names of files that were scored once,
    `skipped_files` files that are not Parquet.
    """

    run_id: str
    run_at: dt.datetime
    dataset: str
    model: str
    model_digest: str
    engine: str
    precision: str
    parity: str = "not applicable"  # or "compared", "off": whether a sample was compared with fp32 torch
    rows_quarantined: int = 0
    bad_files: dict[str, int] = field(default_factory=dict)
    duplicate_files: int = 0
    skipped_files: int = 0


def build_report(
    facts: RunFacts,
    sketch: Sketch,
    labelled: pl.DataFrame | None = None,
    *,
    left_out: int = 0,
    wall_seconds: float = 0.0,
    drift: list[dict[str, Any]] | None = None,
) -> pl.DataFrame:
    """Return the report table.

    `labelled` has `label` and `score`; `left_out` rows had a label that cannot be used; `drift` are the rows of
    `drift_rows`. The column `slice` names the part of the rows, or the bar of a histogram; engine, precision and parity are
    rows whose slice is their value.
    """
    rows = [
        _row("rows", sketch.rows, sketch.rows),
        *[_row("rows_by_status", count, sketch.rows, part=status) for status, count in sorted(sketch.statuses.items())],
        _row("rows_quarantined", facts.rows_quarantined, sketch.rows),
        *[_row("files_left_out", count, sketch.rows, part=reason) for reason, count in sorted(facts.bad_files.items())],
        _row("files_found_twice", facts.duplicate_files, sketch.rows),
        _row("files_passed_over", facts.skipped_files, sketch.rows),
        *_quantile_rows("score", sketch.score_quantiles, sketch.scored),
        *[
            _row("score_histogram", n, sketch.scored, part=f"{low:.1f}-{high:.1f}")
            for low, high, n in sketch.score_histogram()
        ],
        *_quantile_rows("tokens", sketch.length_quantiles, sketch.scored),
        _row("tokens_mean", _ratio(_total_tokens(sketch), sketch.scored), sketch.scored),
        _row("truncation_rate", _ratio(sketch.statuses.get("OK_TRUNCATED", 0), sketch.scored), sketch.scored),
        _row("unknown_token_rate", sketch.unknown_token_rate, sketch.scored),
        _row("duplicate_rate", _ratio(sketch.scored - sketch.distinct, sketch.scored), sketch.scored),
        _row("tokeniser_fallback_rows", sketch.fallback, sketch.rows),
        _row("padding_share", _ratio(sketch.filling, sketch.model_tokens), sketch.scored),
        _row("rows_per_second", _ratio(sketch.rows, sketch.seconds), sketch.rows),
        _row("tokens_per_second", _ratio(sketch.tokens, sketch.seconds), sketch.scored),
        _row("scoring_seconds", sketch.seconds, sketch.rows),
        *[_row("stage_seconds", seconds, sketch.rows, part=stage) for stage, seconds in sorted(sketch.stages.items())],
        *[_row("bottleneck", share, sketch.rows, part=stage) for stage, share in bottlenecks(sketch.stages)],
        *([_row("first_score_seconds", sketch.first_score, sketch.rows)] if sketch.first_score is not None else []),
        _row("wall_seconds", wall_seconds, sketch.rows),
        _row("engine", 1.0, sketch.rows, part=facts.engine),
        _row("precision", 1.0, sketch.rows, part=facts.precision),
        *([] if sketch.same_bits is None else [_row("same_bits", sketch.same_bits, sketch.rows, part=facts.precision)]),
        _row("parity", 1.0, sketch.rows, part=facts.parity),
        _row("parity_max_gap", sketch.parity_max if sketch.parity_rows else math.nan, sketch.parity_rows),
        _row("parity_mean_gap", _ratio(sketch.parity_sum, sketch.parity_rows), sketch.parity_rows),
    ]
    if labelled is not None:
        rows += metric_rows(labelled["label"].to_numpy(), labelled["score"].to_numpy())
        rows.append(_row("labels_left_out", left_out, sketch.rows))
    return finish_rows(rows + (drift or []), facts)


def bottlenecks(stages: dict[str, float]) -> list[tuple[str, float]]:
    """Return the share of time that the run waited for input, engine and output; empty without stages."""
    waits = {"input": "wait for input", "engine": "score", "output": "wait for output"}
    total = sum(stages.get(stage, 0.0) for stage in waits.values())
    return [(name, stages.get(stage, 0.0) / total) for name, stage in waits.items()] if total else []


def drift_rows(figures: list[DriftFigure], baseline: str, baseline_rows: int) -> list[dict[str, Any]]:
    """Return report rows for a comparison with the run `baseline`; `lower` is the warning limit, `upper` the alert limit."""
    rows = [
        _row(figure.metric, Estimate(figure.value, figure.warn, figure.limit), figure.rows, part=figure.part)
        for figure in figures
    ]
    verdicts = [figure.verdict for figure in figures]
    counts = {"drift_warnings": verdicts.count("WARN"), "drift_alerts": verdicts.count("FAIL")}
    rows += [_row(name, count, len(figures)) for name, count in counts.items()]
    return [*rows, _row("drift_baseline", 1.0, baseline_rows, part=baseline)]


def drift_of(report: pl.DataFrame) -> list[DriftFigure]:
    """Return the comparisons in a report, in its order; empty without an earlier run."""
    found = report.filter(pl.col("metric").str.starts_with("drift_") & pl.col("upper").is_not_null())
    columns = ("metric", "value", "lower", "upper", "rows", "slice")
    return [DriftFigure(*row) for row in found.select(columns).rows()]


def metric_rows(labels: np.ndarray, scores: np.ndarray, part: str = "all") -> list[dict[str, Any]]:
    """Return the five regression metrics of scores against labels, each (pairs,), as report rows."""
    metrics = regression_metrics(labels, scores)
    return [_row(name, estimate, len(labels), part=part) for name, estimate in metrics.items()]


def finish_rows(rows: list[dict[str, Any]], facts: RunFacts) -> pl.DataFrame:
    """Add the run's facts to report rows and return them as a table with the report's schema."""
    common = {
        "run_id": facts.run_id,
        "run_at": facts.run_at,
        "dataset": facts.dataset,
        "model": facts.model,
        "model_digest": facts.model_digest,
    }
    return pl.DataFrame([common | row for row in rows], schema=SCHEMA)


def _row(metric: str, value: float | Estimate, rows: int, *, part: str = "all") -> dict[str, Any]:
    estimate = value if isinstance(value, Estimate) else Estimate(float(value), math.nan, math.nan)
    figures = {"value": estimate.value, "lower": estimate.lower, "upper": estimate.upper}
    return {
        "slice": part,
        "metric": metric,
        **{k: v if math.isfinite(v) else None for k, v in figures.items()},
        "rows": rows,
    }


def _quantile_rows(name: str, quantiles: Callable[[list[float]], list[float]], rows: int) -> list[dict[str, Any]]:
    values = quantiles(list(QUANTILES.values()))
    return [_row(f"{name}_{level}", value, rows) for level, value in zip(QUANTILES, values, strict=True)]


def whole_share(share: float, count: int) -> int:
    """Return the largest number of `count` items that is at most `share` of them."""
    return int(share * count + 1e-9)  # 0.29 of 100 is 28.999... in binary


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _total_tokens(sketch: Sketch) -> int:
    return sum(int(tokens) * rows for tokens, rows in sketch.lengths.items())


def content_sha256(report: pl.DataFrame) -> str:
    """Return the SHA-256 of a report's figures, as version 0.1.0 wrote it into the footer."""
    return hashlib.sha256(report.write_json().encode()).hexdigest()


def report_bytes(report: pl.DataFrame, footer: dict[str, str]) -> bytes:
    """Return a report table as a Parquet file with page checksums and the given footer entries."""
    table = report.to_arrow().replace_schema_metadata({METADATA_PREFIX + key: value for key, value in footer.items()})
    file = io.BytesIO()
    pq.write_table(table, file, write_page_checksum=True)
    return file.getvalue()


def figure(report: pl.DataFrame, metric: str, part: str = "all") -> float | None:
    """Return the value of a metric for a slice; None where the report has none."""
    found = report.filter((pl.col("metric") == metric) & (pl.col("slice") == part))["value"]
    return found[0] if len(found) else None


def parts(report: pl.DataFrame, metric: str) -> list[tuple[str, float]]:
    """Return (slice, value) of all rows of a metric, in report order."""
    return list(report.filter(pl.col("metric") == metric).select("slice", "value").rows())


def metrics_of(report: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows with regression metrics, in report order; empty without labels."""
    return report.filter(pl.col("metric").is_in(METRICS)).to_dicts()
