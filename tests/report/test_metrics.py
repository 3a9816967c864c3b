"""Regression metrics and their intervals."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from stsb_batch.report.metrics import regression_metrics


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
