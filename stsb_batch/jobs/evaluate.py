"""Measure a model on labelled pairs: the metrics table, split by split."""

import datetime as dt
import uuid
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from stsb_batch.jobs.scorer import score_texts
from stsb_batch.models.checkpoint import Checkpoint
from stsb_batch.models.registry import resolve_model
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.labels import load_labels, read_labelled
from stsb_batch.report.table import RunFacts, finish_rows, metric_rows
from stsb_batch.settings import Settings


def evaluate_labels(reference: str, *, model: str, columns: Columns, settings: Settings) -> pl.DataFrame:
    """Measure a model on labelled Parquet or `glue/stsb`: by split where there are splits, else as one part."""
    parts = read_labelled(reference, columns, timeout=settings.hub_timeout)
    if {"train", "val"} <= set(parts):
        named = load_labels(reference, columns, timeout=settings.hub_timeout).items()
    else:
        named = [(name or "all", frame) for name, frame in parts.items()]
    checkpoint = resolve_model(settings.home, model, timeout=settings.hub_timeout)
    return evaluate(checkpoint, named, dataset=Path(reference).name, settings=settings)


def evaluate(
    checkpoint: Checkpoint, parts: Iterable[tuple[str, pl.DataFrame]], *, dataset: str, settings: Settings
) -> pl.DataFrame:
    """Return report rows with the five metrics for each part (`left`, `right`, `label`); blank pairs count for none."""
    rows = []
    for name, frame in parts:
        scores = score_texts(checkpoint, frame["left"].to_list(), frame["right"].to_list(), settings=settings)
        scored = frame.with_columns(score=scores).filter(pl.col("score").is_not_nan())
        rows += metric_rows(scored["label"].to_numpy(), scored["score"].to_numpy(), part=name)
    facts = RunFacts(
        run_id=uuid.uuid4().hex,
        run_at=dt.datetime.now(dt.UTC),
        dataset=dataset,
        model=checkpoint.name,
        model_digest=checkpoint.digest,
        engine="torch",
        precision="fp32",
    )
    return finish_rows(rows, facts)
