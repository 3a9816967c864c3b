"""Gather what the gate needs to know of a candidate: its scores and the champion's, slices, leaked pairs, golden scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stsb_batch.inference.scorer import open_plain_scorer, score_texts
from stsb_batch.models.registry import Version, verified
from stsb_batch.refresh.evaluate import Evaluation
from stsb_batch.refresh.gate import Check, GateDecision, GateLimits, decide, leak_check
from stsb_batch.refresh.golden import Ask, ask_fresh_process, reproduce_scores
from stsb_batch.refresh.labels import Labels
from stsb_batch.settings import Settings

LENGTHS = np.array(["short", "medium", "long"])  # the slices where the labels have no slice column


def judge(
    labels: Labels,
    found: Evaluation,
    candidate: Path,
    champion: Version | None,
    *,
    limits: GateLimits,
    also: Sequence[Check] = (),
    settings: Settings,
    ask: Ask = ask_fresh_process,
) -> GateDecision:
    """Compare a candidate with the limits and the champion on the frozen test pairs; `found` is its evaluation.

    `also` are checks that were made elsewhere. Raises `ModelIntegrityError` where the champion's files have changed.
    """
    test = found.parts["test"]
    checks = [leak_check(labels.leaked, test.height, limits), reproduce_scores(candidate, test, settings, ask), *also]
    champion_scores = None
    if champion:
        scorer = open_plain_scorer(verified(champion), settings)
        champion_scores = score_texts(scorer, test["left"].to_list(), test["right"].to_list())
    slices = labels.slices.to_numpy() if labels.slices is not None else length_thirds(test)
    return decide(test["label"].to_numpy(), test["score"].to_numpy(), champion_scores, limits, slices=slices, also=checks)


def length_thirds(pairs: pl.DataFrame) -> np.ndarray:
    """Return each pair's third by length (characters of both texts together), short, medium or long: (pairs,) str."""
    length = pairs.select(pl.col("left").str.len_chars() + pl.col("right").str.len_chars()).to_series()
    return LENGTHS[(length.rank("ordinal").to_numpy().astype(int) - 1) * len(LENGTHS) // pairs.height]


def gate_rows(report: pl.DataFrame, decision: GateDecision) -> pl.DataFrame:
    """Return the gate's checks (value 1 passed, 0 failed) and delta Pearson with its interval as rows of the report."""
    figures = decision.figures
    rows: list[dict[str, Any]] = [
        {"slice": check.detail, "metric": "gate_check", "value": float(check.passed)} for check in decision.checks
    ]
    if "delta_pearson" in figures:
        interval = {"lower": figures["delta_lower"], "upper": figures["delta_upper"]}
        rows.append({"slice": "test", "metric": "gate_delta_pearson", "value": figures["delta_pearson"]} | interval)
    common = report.row(0, named=True) | {"lower": None, "upper": None}
    return pl.DataFrame([common | row for row in rows], schema=report.schema)
