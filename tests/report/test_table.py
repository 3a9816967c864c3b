"""The tidy table of a report."""

import datetime as dt

import polars as pl
import pytest

from stsb_batch.report.sketch import Sketch
from stsb_batch.report.table import SCHEMA, RunFacts, build_report, figure, parts
from stsb_batch.report.text import overview
from tests.builders import make_sketch

FACTS = RunFacts("r1", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "in.parquet", "sts@1", "d" * 64, "torch", "fp32")


def test_report_is_tidy_and_complete():
    """A report has one row per figure in the agreed schema, with all always-on figures and the label metrics."""
    labelled = pl.DataFrame({"label": [0.0, 2.0, 5.0], "score": [0.5, 2.5, 4.5]})
    report = build_report(FACTS, make_sketch([0.5, 2.5, 4.5, None]), labelled, left_out=1)
    assert dict(report.schema) == SCHEMA
    assert report.select("slice", "metric").is_duplicated().sum() == 0
    assert figure(report, "rows_by_status", "NULL_INPUT") == 1
    assert figure(report, "mae") == pytest.approx(0.5)
    assert dict(parts(report, "score_histogram"))["2.5-3.0"] == 1
    wanted = {
        "score_p50",
        "tokens_p95",
        "truncation_rate",
        "duplicate_rate",
        "rows_per_second",
        "parity_max_gap",
        "labels_left_out",
    }
    assert wanted <= set(report["metric"])
    assert parts(report, "engine") == [("torch", 1.0)]


def test_empty_report_has_nulls_not_nan():
    """A run over no rows has a report whose unknown figures are null."""
    report = build_report(FACTS, Sketch())
    assert figure(report, "rows") == 0
    assert figure(report, "score_p50") is None
    assert not report["value"].is_nan().any()


def test_unknown_tokens_are_a_figure():
    """The share of unknown tokens adds up over parts, and is shown; an older sketch, without the counts, has none."""
    counted = [Sketch(rows=1, statuses={"OK": 1}, text_tokens=tokens, unknown_tokens=1) for tokens in (4, 6)]
    report = build_report(FACTS, counted[0].merge(counted[1]))
    assert figure(report, "unknown_token_rate") == 0.2
    assert dict(overview(report))["unknown tokens"] == "20.00%"
    old = {name: value for name, value in make_sketch([1.0, 2.0]).to_json().items() if "_tokens" not in name}
    assert figure(build_report(FACTS, Sketch(**old).merge(Sketch())), "unknown_token_rate") is None
