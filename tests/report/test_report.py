"""Metrics, mergeable sketches, the tidy table."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from stsb_batch.report.metrics import regression_metrics
from stsb_batch.report.sketch import Sketch, sketch_rows
from stsb_batch.report.table import SCHEMA, RunFacts, build_report, figure, parts
from stsb_batch.report.text import overview

FACTS = RunFacts("r1", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "in.parquet", "sts@1", "d" * 64, "torch", "fp32")


def sketch(scores: list[float | None]) -> Sketch:
    array = np.array([np.nan if score is None else score for score in scores], np.float32)
    statuses = np.where(np.isnan(array), 2, 0).astype(np.int8)
    lengths = np.where(np.isnan(array), 0, 3 + np.arange(len(array)) % 7).astype(np.int32)
    return sketch_rows(
        array, statuses, lengths, distinct=len(array), gaps=np.abs(array[:2][~np.isnan(array[:2])]), seconds=0.5
    )


def test_metrics_equal_scipy_and_lie_in_their_intervals():
    """The five metrics are those of their textbook definitions; each lies in its interval."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 5, 400)
    scores = labels + rng.normal(0, 0.7, 400)
    found = regression_metrics(labels, scores)
    expected = {
        "mse": np.mean((labels - scores) ** 2),
        "rmse": np.sqrt(np.mean((labels - scores) ** 2)),
        "mae": np.mean(np.abs(labels - scores)),
        "pearson": pearsonr(labels, scores)[0],
        "spearman": spearmanr(labels, scores)[0],
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-12)
        assert found[name].lower < value < found[name].upper


def test_interval_covers_the_truth_about_95_times_of_100():
    """Over many samples the 95 % interval of Pearson holds the true value in 88 to 100 % of them."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        labels = rng.normal(0, 1, 200)
        found = regression_metrics(labels, 0.8 * labels + 0.6 * rng.normal(0, 1, 200), draws=200)["pearson"]
        hits += found.lower <= 0.8 <= found.upper
    assert hits >= 88


def test_metrics_of_nothing_and_of_constants():
    """No rows give NaN everywhere; constant scores have errors but no correlation."""
    assert np.isnan(regression_metrics(np.array([]), np.array([]))["mse"].value)
    found = regression_metrics(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0), draws=10)
    assert found["mae"].value == pytest.approx(2 / 3)
    assert np.isnan(found["pearson"].value)


SCORES = st.lists(st.one_of(st.none(), st.floats(-2, 7, width=32)), max_size=40)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_merged_sketches_are_the_sketch_of_the_merged_rows(left: list, right: list):
    """Counts, distributions, quantiles and histogram of two parts merged are those of all rows (law 6)."""
    merged = sketch(left).merge(sketch(right))
    array = np.array([np.nan if s is None else s for s in left + right], np.float32)
    scored = array[~np.isnan(array)]
    assert merged.rows == len(array)
    assert merged.scored == len(scored)
    assert sum(rows for _, _, rows in merged.score_histogram()) == len(scored)
    assert Sketch(**merged.to_json()) == merged
    whole = sketch_rows(
        array, np.where(np.isnan(array), 2, 0), np.zeros(len(array), np.int32), distinct=0, gaps=np.empty(0), seconds=0
    )
    assert (merged.scores, merged.statuses) == (whole.scores, whole.statuses)
    if len(scored):
        median = np.quantile(np.clip(scored, -1, 6), 0.5, method="inverted_cdf")
        assert merged.score_quantiles([0.5])[0] == pytest.approx(median, abs=0.00051)


def test_report_is_tidy_and_complete():
    """A report has one row per figure in the agreed schema, with all always-on figures and the label metrics."""
    labelled = pl.DataFrame({"label": [0.0, 2.0, 5.0], "score": [0.5, 2.5, 4.5]})
    report = build_report(FACTS, sketch([0.5, 2.5, 4.5, None]), labelled, left_out=1)
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
    old = {name: value for name, value in sketch([1.0, 2.0]).to_json().items() if "_tokens" not in name}
    assert figure(build_report(FACTS, Sketch(**old).merge(Sketch())), "unknown_token_rate") is None
