"""Drift: how far this run's rows are from an earlier run's. Pure: two sketches in, figures with their limits out.

Two samples of the very same rows differ too, the smaller they are the more. So each limit grows with that noise where
it would be the larger: a healthy night is found beyond a limit about once in a thousand comparisons.
"""

from dataclasses import dataclass

import numpy as np

from stsb_batch.report.sketch import Sketch

KS_ROWS = 1_000  # up to this many rows Kolmogorov-Smirnov, above that Wasserstein, for KS finds any trifle in many rows
DISTANCE_LIMIT = 0.1  # normed Wasserstein and Jensen-Shannon
PSI_WARN, PSI_LIMIT = 0.1, 0.25
RATE_LIMIT = 0.02  # rise of the share of rows with a status
RATES = ("NULL_INPUT", "EMPTY_INPUT", "OK_TRUNCATED")
UNKNOWN_TOKENS = "UNKNOWN_TOKENS"  # the part of the rate of unknown tokens
RARE = 0.001  # chance of a false alarm of one comparison


@dataclass(frozen=True)
class DriftFigure:
    """One comparison. Above `limit` it alerts, above `warn` it warns; `part` names the status, or what else a rate is of."""

    metric: str
    value: float
    warn: float
    limit: float
    rows: int
    part: str = "all"

    @property
    def verdict(self) -> str:
        return "FAIL" if self.value > self.limit else "WARN" if self.value > self.warn else "PASS"


def compare(now: Sketch, before: Sketch, *, same_model: bool) -> list[DriftFigure]:
    """Compare a run's rows with an earlier run's: lengths, statuses and rates, and the scores where one model made both.

    A run without rows, or one against such a run, gives nothing to compare.
    """
    if not now.rows or not before.rows:
        return []
    figures = []
    if now.scored and before.scored:
        if same_model:
            figures.append(_distance("score", now.scores, before.scores))
            figures.append(_psi(now.scores, before.scores))
        figures.append(_distance("tokens", now.lengths, before.lengths))
    figures.append(_jensen_shannon(now.statuses, before.statuses))
    for status in RATES:
        ours, theirs = (side.statuses.get(status, 0) for side in (now, before))
        figures.append(_rate(status, (ours, now.rows), (theirs, before.rows)))
    if now.text_tokens and before.text_tokens:
        sides = ((side.unknown_token_rate * rows, rows) for side in (now, before) for rows in [_rows_alike(side.lengths)])
        figures.append(_rate(UNKNOWN_TOKENS, *sides, broken=1))
    return figures


def _aligned(now: dict[str, int], before: dict[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values that either has, and how many rows (values,) each has of them."""
    values = sorted({int(key) for key in (*now, *before)})
    counts = [np.array([side.get(str(value), 0) for value in values], np.float64) for side in (now, before)]
    return np.array(values, np.float64), *counts


def _distance(name: str, now: dict[str, int], before: dict[str, int]) -> DriftFigure:
    """Compare two distributions: the two-sample KS statistic for few rows, else Wasserstein over the spread of both."""
    values, ours, theirs = _aligned(now, before)
    rows, baseline = ours.sum(), theirs.sum()
    gaps = np.abs(np.cumsum(ours) / rows - np.cumsum(theirs) / baseline)
    if min(rows, baseline) <= KS_ROWS:
        limit = np.sqrt(-np.log(RARE / 2) / 2 * (1 / rows + 1 / baseline))  # asymptotic (Smirnov 1948)
        return _figure(f"drift_{name}_ks", gaps.max(), limit, limit, rows)
    mean = np.average(values, weights=ours + theirs)
    spread = np.sqrt(np.average((values - mean) ** 2, weights=ours + theirs))  # of either alone, a few long texts decide it
    moved = float(np.sum(gaps[:-1] * np.diff(values)))
    # 3.4 to 3.5 standard errors are the 99.9 % point for normal, skewed, two-humped and two-valued rows (20,000 draws each)
    limit = max(DISTANCE_LIMIT, 3.5 * np.sqrt(1 / rows + 1 / baseline))
    return _figure(f"drift_{name}_wasserstein", moved / max(spread, 1.0), limit, limit, rows)


def _psi(now: dict[str, int], before: dict[str, int]) -> DriftFigure:
    """Return the population stability index of the scores over the baseline's deciles; each bar gets half a row more."""
    _, ours, theirs = _aligned(now, before)
    rows, baseline = ours.sum(), theirs.sum()
    decile = np.minimum((np.cumsum(theirs) - theirs / 2) / baseline * 10, 9).astype(int)
    shares = []
    for counts in (ours, theirs):
        bars = np.bincount(decile, weights=counts, minlength=10) + 0.5
        shares.append(bars / bars.sum())
    value = float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1])))
    noise = _noise(10, rows, baseline)
    return _figure("drift_score_psi", value, max(PSI_WARN, noise), max(PSI_LIMIT, noise), rows)


def _jensen_shannon(now: dict[str, int], before: dict[str, int]) -> DriftFigure:
    """Return the Jensen-Shannon distance (base 2, 0 to 1) of the rows by status."""
    names = sorted({*now, *before})
    ours, theirs = (np.array([side.get(name, 0) for name in names], np.float64) for side in (now, before))
    rows, baseline = ours.sum(), theirs.sum()
    ours, theirs = ours / rows, theirs / baseline
    middle = (ours + theirs) / 2
    bits = sum(np.sum(side[side > 0] * np.log2(side[side > 0] / middle[side > 0])) / 2 for side in (ours, theirs))
    limit = max(DISTANCE_LIMIT, np.sqrt(_noise(len(names), rows, baseline) / (8 * np.log(2))))
    return _figure("drift_status_js", np.sqrt(max(bits, 0.0)), limit, limit, rows)


def _rate(part: str, now: tuple[float, int], before: tuple[float, int], *, broken: int = 0) -> DriftFigure:
    """Return by how much a share has risen; a fall is no alarm. Each side is (rows of a kind, rows).

    Where rows of a kind are no whole numbers, `broken` is one row that chance may add.
    """
    from scipy.stats import hypergeom

    (ours, rows), (theirs, baseline) = now, before
    found = int(np.ceil(ours + theirs))
    # how many of all these rows fall into this run if which do is chance (Fisher 1935): exact, also for few rows
    seldom = hypergeom.ppf(1 - RARE, rows + baseline, found, rows) + broken if found else 0.0
    limit = max(RATE_LIMIT, seldom / rows - max(0.0, found - seldom) / baseline)
    return _figure("drift_rate", ours / rows - theirs / baseline, limit, limit, rows, part)


def _rows_alike(lengths: dict[str, int]) -> int:
    """Return how many rows of one length would make a share of tokens as certain as these rows do (Kish 1965).

    The tokens of a row are not independent of each other: it may be unknown as a whole. In 24,000 made-up pairs of nights
    of one population, of even and of very uneven lengths, at most one in a thousand was beyond the limit.
    """
    tokens, rows, _ = _aligned(lengths, {})
    return max(1, int(np.sum(tokens * rows) ** 2 / np.sum(tokens**2 * rows)))


def _noise(bars: int, rows: float, baseline: float) -> float:
    """Return what the symmetrised chi-square distance of two samples of one population seldom exceeds, by bars and rows.

    Both PSI and 8 times the Jensen-Shannon divergence (in nats) come to it where the shares are close.
    """
    from scipy.stats import chi2  # half a second, which a first run need not wait for

    return float(chi2.ppf(1 - RARE, bars - 1)) * (1 / rows + 1 / baseline) if bars > 1 else 0.0


def _figure(metric: str, value: float, warn: float, limit: float, rows: float, part: str = "all") -> DriftFigure:
    return DriftFigure(metric, float(value), float(warn), float(limit), int(rows), part)
