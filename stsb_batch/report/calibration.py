"""How far scores can be trusted: reliability by score band, order symmetry, the half-width that covers nine in ten. Pure."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BANDS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
COVERAGE = 0.9


@dataclass(frozen=True)
class Band:
    """The pairs whose score falls into a band: on a calibrated scale their mean label is their mean score."""

    name: str
    pairs: int
    mean_score: float
    mean_label: float


@dataclass(frozen=True)
class Symmetry:
    """How much score(a, b) differs from score(b, a)."""

    pairs: int
    mean_gap: float
    p95_gap: float
    max_gap: float


@dataclass(frozen=True)
class Conformal:
    """`half_width`: score +- half_width holds the label of a new pair with the wanted coverage; `covered`: the share of
    other labelled pairs for which it did. `half_width` is None where there are too few pairs to promise anything."""

    wanted: float
    half_width: float | None
    fitted_on: int
    covered: float | None
    checked_on: int

    @property
    def said(self) -> str:
        """The promise in a sentence."""
        if self.half_width is None:
            return f"{self.fitted_on} pairs are too few to say how far a label is from its score"
        covered = "" if self.covered is None else f"; it held for {self.covered:.1%} of {self.checked_on} others"
        promise = f"{self.wanted:.0%} of labels are within {self.half_width:.2f} of the score"
        return f"{promise} (fitted on {self.fitted_on}{covered})"


def reliability(labels: np.ndarray, scores: np.ndarray) -> list[Band]:
    """Return the mean score and mean label (pairs,) of each score band that has pairs; the outer bands are open-ended."""
    place = np.digitize(scores, BANDS[1:-1])
    bands = []
    for number, (low, high) in enumerate(pairwise(BANDS)):
        rows = place == number
        if rows.any():
            name = f"{low:.1f}-{high:.1f}"
            bands.append(Band(name, int(rows.sum()), float(scores[rows].mean()), float(labels[rows].mean())))
    return bands


def order_symmetry(forward: np.ndarray, backward: np.ndarray) -> Symmetry:
    """Compare scores of (a, b) with those of (b, a), each (pairs,); unscored pairs (NaN) count for nothing."""
    gaps = np.abs(forward.astype(np.float64) - backward)
    gaps = gaps[np.isfinite(gaps)]
    if not len(gaps):
        return Symmetry(0, 0.0, 0.0, 0.0)
    return Symmetry(len(gaps), float(gaps.mean()), float(np.quantile(gaps, 0.95)), float(gaps.max()))


def conformal(
    labels: np.ndarray, scores: np.ndarray, check_labels: np.ndarray, check_scores: np.ndarray, *, wanted: float = COVERAGE
) -> Conformal:
    """Fit the split-conformal half-width on some pairs and count how many labels of others it covers.

    The half-width is the ceil((n + 1) x wanted)-th smallest absolute error, which promises the coverage for pairs drawn
    like these (Vovk et al. 2005; Lei et al. 2018). With 90 % that takes at least 9 pairs.
    """
    rank = math.ceil((len(labels) + 1) * wanted)
    if rank > len(labels):
        return Conformal(wanted, None, len(labels), None, len(check_labels))
    half_width = float(np.sort(np.abs(labels - scores))[rank - 1])
    covered = float(np.mean(np.abs(check_labels - check_scores) <= half_width)) if len(check_labels) else None
    return Conformal(wanted, half_width, len(labels), covered, len(check_labels))


def calibration_rows(part: str, labels: np.ndarray, scores: np.ndarray) -> list[dict]:
    """Return report rows with the mean score and mean label of each band; `slice` is the part and the band."""
    return [
        _row(f"{part} {band.name}", metric, value, band.pairs)
        for band in reliability(labels, scores)
        for metric, value in (("reliability_score", band.mean_score), ("reliability_label", band.mean_label))
    ]


def symmetry_rows(part: str, found: Symmetry) -> list[dict]:
    """Return report rows with the gaps between the two orders of a pair."""
    gaps = {"order_gap_mean": found.mean_gap, "order_gap_p95": found.p95_gap, "order_gap_max": found.max_gap}
    return [_row(part, metric, value, found.pairs) for metric, value in gaps.items()]


def conformal_rows(fitted: str, checked: str, found: Conformal) -> list[dict]:
    """Return report rows with the half-width, under the part it was fitted on, and its coverage of the other."""
    return [
        _row(fitted, "conformal_half_width", found.half_width, found.fitted_on),
        _row(checked, "conformal_coverage", found.covered, found.checked_on),
    ]


def _row(part: str, metric: str, value: float | None, pairs: int) -> dict:
    return {"slice": part, "metric": metric, "value": value, "lower": None, "upper": None, "rows": pairs}
