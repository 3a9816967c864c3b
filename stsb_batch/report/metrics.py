"""Regression metrics of scores against labels, with bootstrap intervals. Pure."""

from dataclasses import dataclass
from typing import Any

import numpy as np

METRICS = ("mse", "rmse", "mae", "pearson", "spearman")
BOOTSTRAP_CELLS = 20_000_000  # pairs x draws; with more pairs fewer draws are made, at least 100


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; NaN where there is none."""

    value: float
    lower: float
    upper: float


def regression_metrics(labels: np.ndarray, scores: np.ndarray, *, draws: int = 1_000, seed: int = 42) -> dict[str, Estimate]:
    """Return MSE, RMSE, MAE, Pearson and Spearman of scores (pairs,) against labels (pairs,), by name.

    Intervals are percentile bootstrap over pairs (Efron 1979). For Spearman the ranks of the full sample are resampled,
    which saves sorting each draw. A correlation is NaN where scores or labels do not vary, everything without pairs.
    """
    from scipy.stats import rankdata  # takes half a second, which a run without labels saves

    labels, scores = labels.astype(np.float64), scores.astype(np.float64)
    if len(labels) == 0:
        return {name: Estimate(np.nan, np.nan, np.nan) for name in METRICS}
    ranks = rankdata(labels), rankdata(scores)
    rng = np.random.default_rng(seed)
    draws = max(100, min(draws, BOOTSTRAP_CELLS // len(labels)))
    resampled = [_figures(labels, scores, ranks, rng.integers(0, len(labels), len(labels))) for _ in range(draws)]
    values = _figures(labels, scores, ranks, slice(None))
    with np.errstate(invalid="ignore"):
        lower, upper = np.quantile(np.array(resampled), [0.025, 0.975], axis=0)
    return {n: Estimate(*map(float, row)) for n, *row in zip(METRICS, values, lower, upper, strict=True)}


def _figures(labels: np.ndarray, scores: np.ndarray, ranks: tuple[np.ndarray, np.ndarray], rows: Any) -> list[float]:
    errors = scores[rows] - labels[rows]
    mse = float(np.mean(errors**2))
    correlations = [_pearson(labels[rows], scores[rows]), _pearson(ranks[0][rows], ranks[1][rows])]
    return [mse, mse**0.5, float(np.mean(np.abs(errors))), *correlations]


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt(np.dot(x, x) * np.dot(y, y))
    return float(np.dot(x, y) / scale) if scale > 0 else float("nan")
