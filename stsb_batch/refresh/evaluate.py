"""Measure a model on labelled pairs by split: metrics, reliability, order symmetry, conformal half-width, plots."""

import datetime as dt
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.inference.scorer import open_small_scorer, score_texts
from stsb_batch.models.checkpoint import Checkpoint
from stsb_batch.models.registry import resolve_model
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.label_files import read_labelled
from stsb_batch.refresh.labels import split_labels
from stsb_batch.report.calibration import (
    Band,
    Conformal,
    Symmetry,
    calibration_rows,
    conformal,
    conformal_rows,
    order_symmetry,
    reliability,
    symmetry_rows,
)
from stsb_batch.report.plots import save_plots
from stsb_batch.report.table import RunFacts, finish_rows, metric_rows
from stsb_batch.settings import Settings

SYMMETRY_PAIRS = 1_000  # of the main part, scored a second time with their sides swapped


@dataclass(frozen=True)
class Evaluation:
    """A model's figures on labelled pairs.

    `parts` maps split -> frame with `left`, `right`, `label` and `score` (NaN where a pair has none). `bands` and `symmetry`
    are those of the main part: test, where there is one.
    """

    report: pl.DataFrame
    parts: dict[str, pl.DataFrame]
    bands: list[Band]
    symmetry: Symmetry
    conformal: Conformal

    @property
    def main_part(self) -> str:
        return main_part(self.parts)


def evaluate_labels(reference: str, *, model: str, columns: Columns, settings: Settings) -> Evaluation:
    """Measure a model on labelled Parquet or `glue/stsb`, by split if there are splits, else as one part `all`.

    Raises as `read_labelled` and `resolve_model` do.
    """
    read = read_labelled(reference, columns, timeout=settings.hub_timeout)
    if {"train", "val"} <= set(read.frames):
        named = split_labels(read, reference).items()
    else:
        named = [(name or "all", frame) for name, frame in read.frames.items()]
    checkpoint = resolve_model(settings.home, model, timeout=settings.hub_timeout)
    scorer = open_small_scorer(checkpoint, settings)
    return evaluate(checkpoint, scorer, named, dataset=Path(reference).name)


def evaluate(
    checkpoint: Checkpoint, scorer: PairScorer, parts: Iterable[tuple[str, pl.DataFrame]], *, dataset: str
) -> Evaluation:
    """Score each part (`left`, `right`, `label`) and measure it; pairs without a score are ignored."""
    scored = {name: _scored(scorer, frame) for name, frame in parts}
    rows = []
    for name, frame in scored.items():
        labels, scores = pairs_of(frame)
        rows += metric_rows(labels, scores, part=name) + calibration_rows(name, labels, scores)
    main = main_part(scored)
    symmetry = _symmetry(scorer, scored[main])
    fitted, checked, interval = _conformal(scored)
    rows += symmetry_rows(main, symmetry) + conformal_rows(fitted, checked, interval)
    facts = RunFacts(
        run_id=uuid.uuid4().hex,
        run_at=dt.datetime.now(dt.UTC),
        dataset=dataset,
        model=checkpoint.name,
        model_digest=checkpoint.digest,
        engine=scorer.engine.choice.engine,
        precision=scorer.engine.choice.precision,
    )
    return Evaluation(finish_rows(rows, facts), scored, reliability(*pairs_of(scored[main])), symmetry, interval)


def main_part(parts: dict[str, pl.DataFrame]) -> str:
    """Return the name of the part that a model is judged by: test, else val, else the last."""
    return next((name for name in ("test", "val") if name in parts), list(parts)[-1])


def pairs_of(scored: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores (pairs,) of the pairs that have a score."""
    there = scored.filter(pl.col("score").is_finite())
    return there["label"].to_numpy(), there["score"].to_numpy()


def save_pictures(found: Evaluation, folder: Path) -> list[Path]:
    """Save a scatter plot and a residual plot of all parts; returns the files."""
    title = f"{found.report['model'][0]} on {found.report['dataset'][0]}"
    return save_plots({name: pairs_of(frame) for name, frame in found.parts.items()}, title, folder)


def _scored(scorer: PairScorer, frame: pl.DataFrame) -> pl.DataFrame:
    scores = score_texts(scorer, frame["left"].to_list(), frame["right"].to_list())
    return frame.select("left", "right", "label").with_columns(score=scores)


def _symmetry(scorer: PairScorer, scored: pl.DataFrame) -> Symmetry:
    rows = np.unique(np.linspace(0, scored.height - 1, min(SYMMETRY_PAIRS, scored.height)).astype(int))
    sample = scored[rows]
    swapped = score_texts(scorer, sample["right"].to_list(), sample["left"].to_list())
    return order_symmetry(sample["score"].to_numpy(), swapped)


def _conformal(scored: dict[str, pl.DataFrame]) -> tuple[str, str, Conformal]:
    """Fit the half-width on val and check it on test; without both, fit and check it on every other pair of the main part.

    Returns the name of the part it was fitted on, of the part it was checked on, and the half-width.
    """
    if {"val", "test"} <= set(scored):
        fitted, checked = "val", "test"
        fit, check = pairs_of(scored["val"]), pairs_of(scored["test"])
    else:
        fitted = checked = main_part(scored)
        labels, scores = pairs_of(scored[fitted])
        fit, check = (labels[::2], scores[::2]), (labels[1::2], scores[1::2])
    return fitted, checked, conformal(*fit, *check)
