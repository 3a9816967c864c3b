"""How far scores can be trusted: reliability by score band, order symmetry, conformal half-width. Pure: arrays in."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

BANDS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
COVERAGE = 0.9


@dataclass(frozen=True)
class Band:
    """The pairs whose score falls into a band. If scores are calibrated, `mean_score` and `mean_label` are equal."""

    name: str
    pairs: int
    mean_score: float
    mean_label: float


@dataclass(frozen=True)
class Symmetry:
    """How much score(a, b) differs from score(b, a): the mean, 95th percentile and maximum of the absolute difference."""

    pairs: int
    mean_gap: float
    p95_gap: float
    max_gap: float


@dataclass(frozen=True)
class Conformal:
    """The interval score +- `half_width`, which contains the label of a new pair with probability `wanted`.

    `covered` is the share of `checked_on` other labelled pairs whose label it contained. `half_width` is None where
    `fitted_on` pairs are too few for the wanted coverage.
    """

    wanted: float
    half_width: float | None
    fitted_on: int
    covered: float | None
    checked_on: int

    @property
    def summary(self) -> str:
        """The interval and its coverage in a sentence."""
        if self.half_width is None:
            return f"{self.fitted_on} pairs are too few to estimate how far labels are from scores"
        covered = "" if self.covered is None else f"; true for {self.covered:.1%} of {self.checked_on} others"
        interval = f"{self.wanted:.0%} of labels are within {self.half_width:.2f} of the score"
        return f"{interval} (fitted on {self.fitted_on}{covered})"


def reliability(labels: np.ndarray, scores: np.ndarray) -> list[Band]:
    """Group labels and scores, each (pairs,), into the bands that have pairs; the outer bands are open-ended."""
    place = np.digitize(scores, BANDS[1:-1])
    bands = []
    for number, (low, high) in enumerate(pairwise(BANDS)):
        rows = place == number
        if rows.any():
            name = f"{low:.1f}-{high:.1f}"
            bands.append(Band(name, int(rows.sum()), float(scores[rows].mean()), float(labels[rows].mean())))
    return bands


def order_symmetry(forward: np.ndarray, backward: np.ndarray) -> Symmetry:
    """Compare scores of (a, b) with those of (b, a), each (pairs,); unscored pairs (NaN) are ignored."""
    gaps = np.abs(forward.astype(np.float64) - backward)
    gaps = gaps[np.isfinite(gaps)]
    if not len(gaps):
        return Symmetry(0, 0.0, 0.0, 0.0)
    return Symmetry(len(gaps), float(gaps.mean()), float(np.quantile(gaps, 0.95)), float(gaps.max()))


def conformal(
    labels: np.ndarray, scores: np.ndarray, check_labels: np.ndarray, check_scores: np.ndarray, *, wanted: float = COVERAGE
) -> Conformal:
    """Fit the split-conformal half-width on some pairs, and measure its coverage on others; all arrays are (pairs,).

    The half-width is the ceil((n + 1) x wanted)-th smallest absolute error, which guarantees the coverage for pairs from
    the same distribution (Vovk et al. 2005; Lei et al. 2018). A coverage of 90 % needs at least 9 pairs.
    """
    rank = math.ceil((len(labels) + 1) * wanted)
    if rank > len(labels):
        return Conformal(wanted, None, len(labels), None, len(check_labels))
    half_width = float(np.sort(np.abs(labels - scores))[rank - 1])
    covered = float(np.mean(np.abs(check_labels - check_scores) <= half_width)) if len(check_labels) else None
    return Conformal(wanted, half_width, len(labels), covered, len(check_labels))


def calibration_rows(part: str, labels: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """Return report rows with the mean score and mean label of each band; their `slice` is the part and the band."""
    return [
        _row(f"{part} {band.name}", metric, value, band.pairs)
        for band in reliability(labels, scores)
        for metric, value in (("reliability_score", band.mean_score), ("reliability_label", band.mean_label))
    ]


def symmetry_rows(part: str, found: Symmetry) -> list[dict[str, Any]]:
    """Return report rows with the differences between the two orders of a pair."""
    gaps = {"order_gap_mean": found.mean_gap, "order_gap_p95": found.p95_gap, "order_gap_max": found.max_gap}
    return [_row(part, metric, value, found.pairs) for metric, value in gaps.items()]


def conformal_rows(fitted: str, checked: str, found: Conformal) -> list[dict[str, Any]]:
    """Return report rows with the half-width, for the part it was fitted on, and its coverage, for the part checked."""
    return [
        _row(fitted, "conformal_half_width", found.half_width, found.fitted_on),
        _row(checked, "conformal_coverage", found.covered, found.checked_on),
    ]


def _row(part: str, metric: str, value: float | None, pairs: int) -> dict[str, Any]:
    return {"slice": part, "metric": metric, "value": value, "lower": None, "upper": None, "rows": pairs}
