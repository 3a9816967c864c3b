"""The evidence for the gate: thirds by length, and the verdict as rows of the report."""

import datetime as dt

import numpy as np
import polars as pl

from stsb_batch.refresh.gate import GateLimits, decide
from stsb_batch.refresh.judge import gate_rows, length_thirds
from stsb_batch.report.table import SCHEMA, RunFacts, finish_rows, metric_rows

FACTS = RunFacts("r1", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "l.parquet", "candidate", "d" * 64, "torch", "fp32")


def test_thirds_have_equal_sizes_and_follow_the_length():
    """Of nine pairs three are short, three medium and three long, by the characters of both texts."""
    sizes = [7, 1, 9, 3, 5, 2, 8, 4, 6]
    pairs = pl.DataFrame({"left": ["x" * size for size in sizes], "right": ["y"] * 9})
    found = length_thirds(pairs)
    expected = [("short", "medium", "long")[(size - 1) // 3] for size in sizes]
    assert found.tolist() == expected


def test_verdict_is_in_the_report():
    """Each check is a row, 1 where it passed and 0 where not; the delta has its interval."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 5, 300)
    scores, champion = labels + rng.normal(0, 0.5, (2, 300))
    decision = decide(labels, scores, champion, GateLimits(floor=0.999, draws=200))
    rows = gate_rows(finish_rows(metric_rows(labels, scores, "test"), FACTS), decision)
    assert dict(rows.schema) == SCHEMA
    checks = rows.filter(pl.col("metric") == "gate_check")
    assert len(checks) == len(decision.checks)
    assert 0 in checks["value"].to_list()
    delta = rows.filter(pl.col("metric") == "gate_delta_pearson").row(0, named=True)
    assert delta["lower"] <= delta["value"] == decision.figures["delta_pearson"] <= delta["upper"]
