"""Drift: how far this run's rows are from an earlier run's. Pure: two sketches in, figures with their limits out.

Two samples of one population differ too, small samples more. Where that sampling noise exceeds a limit, it becomes the
limit: without drift, about one comparison in a thousand exceeds its limit.
"""

from dataclasses import dataclass

import numpy as np

from stsb_batch.report.sketch import Sketch

KS_ROWS = 1_000  # Kolmogorov-Smirnov up to this many rows, above it Wasserstein: with many rows KS reports any difference
DISTANCE_LIMIT = 0.1  # for normalised Wasserstein and Jensen-Shannon distances
PSI_WARN, PSI_LIMIT = 0.1, 0.25
RATE_LIMIT = 0.02  # for the rise of the share of rows with a status
RATES = ("NULL_INPUT", "EMPTY_INPUT", "OK_TRUNCATED")
UNKNOWN_TOKENS = "UNKNOWN_TOKENS"  # `part` of the rate of unknown tokens
FALSE_ALARM = 0.001  # probability of a false alarm in one comparison


@dataclass(frozen=True)
class DriftFigure:
    """One comparison, an alert above `limit` and a warning above `warn`. `part` is the status or kind of token of a rate."""

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
    """Compare a run's rows with an earlier run's: lengths, statuses, rates, and the scores if both used the same model.

    Empty where one of the runs has no rows.
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
        sides = (
            (side.unknown_token_rate * rows, rows) for side in (now, before) for rows in [_effective_rows(side.lengths)]
        )
        figures.append(_rate(UNKNOWN_TOKENS, *sides, extra=1))
    return figures


def _aligned(now: dict[str, int], before: dict[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all values of both sides, sorted, and the rows of each side by value; all (values,)."""
    values = sorted({int(key) for key in (*now, *before)})
    counts = [np.array([side.get(str(value), 0) for value in values], np.float64) for side in (now, before)]
    return np.array(values, np.float64), counts[0], counts[1]


def _distance(name: str, now: dict[str, int], before: dict[str, int]) -> DriftFigure:
    """Compare two distributions: by the two-sample KS statistic for few rows, else by Wasserstein over the pooled spread."""
    values, ours, theirs = _aligned(now, before)
    rows, baseline = ours.sum(), theirs.sum()
    gaps = np.abs(np.cumsum(ours) / rows - np.cumsum(theirs) / baseline)
    if min(rows, baseline) <= KS_ROWS:
        limit = np.sqrt(-np.log(FALSE_ALARM / 2) / 2 * (1 / rows + 1 / baseline))  # asymptotic (Smirnov 1948)
        return _figure(f"drift_{name}_ks", gaps.max(), limit, limit, rows)
    mean = np.average(values, weights=ours + theirs)
    spread = np.sqrt(
        np.average((values - mean) ** 2, weights=ours + theirs)
    )  # a spread of one side would depend on a few long texts
    moved = float(np.sum(gaps[:-1] * np.diff(values)))
    # 3.4 to 3.5 standard errors are the 99.9 % point of normal, skewed, bimodal and two-valued rows (20,000 draws each)
    limit = max(DISTANCE_LIMIT, 3.5 * np.sqrt(1 / rows + 1 / baseline))
    return _figure(f"drift_{name}_wasserstein", moved / max(spread, 1.0), limit, limit, rows)


def _psi(now: dict[str, int], before: dict[str, int]) -> DriftFigure:
    """Return the population stability index of the scores over the baseline's deciles, with half a row added to each."""
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
    """Return the Jensen-Shannon distance (base 2, 0 to 1) between the distributions over statuses."""
    names = sorted({*now, *before})
    ours, theirs = (np.array([side.get(name, 0) for name in names], np.float64) for side in (now, before))
    rows, baseline = ours.sum(), theirs.sum()
    ours, theirs = ours / rows, theirs / baseline
    middle = (ours + theirs) / 2
    bits = sum(np.sum(side[side > 0] * np.log2(side[side > 0] / middle[side > 0])) / 2 for side in (ours, theirs))
    limit = max(DISTANCE_LIMIT, np.sqrt(_noise(len(names), rows, baseline) / (8 * np.log(2))))
    return _figure("drift_status_js", np.sqrt(max(bits, 0.0)), limit, limit, rows)


def _rate(part: str, now: tuple[float, int], before: tuple[float, int], *, extra: int = 0) -> DriftFigure:
    """Return the rise of a share; a fall never alerts. Each side is (rows of a kind, rows).

    Where the rows of a kind are fractional, `extra` is one row that is added to what chance allows.
    """
    from scipy.stats import hypergeom

    (ours, rows), (theirs, baseline) = now, before
    found = int(np.ceil(ours + theirs))
    # how many of these rows are in this run if that is random (Fisher 1935); exact, also for few rows
    at_most = hypergeom.ppf(1 - FALSE_ALARM, rows + baseline, found, rows) + extra if found else 0.0
    limit = max(RATE_LIMIT, at_most / rows - max(0.0, found - at_most) / baseline)
    return _figure("drift_rate", ours / rows - theirs / baseline, limit, limit, rows, part)


def _effective_rows(lengths: dict[str, int]) -> int:
    """Return the effective sample size: how many rows of equal length estimate a share of tokens as well (Kish 1965).

    The tokens of a row are not independent: all of them may be unknown. In 24,000 simulated pairs of runs without drift,
    of even and of very uneven lengths, at most one in a thousand exceeded the limit.
    """
    tokens, rows, _ = _aligned(lengths, {})
    return max(1, int(np.sum(tokens * rows) ** 2 / np.sum(tokens**2 * rows)))


def _noise(bars: int, rows: float, baseline: float) -> float:
    """Return the 99.9 % point of the symmetrised chi-square distance of two samples of one population.

    PSI and 8 times the Jensen-Shannon divergence (in nats) approximate that distance where the shares are close.
    """
    from scipy.stats import chi2  # takes half a second, which a first run saves

    return float(chi2.ppf(1 - FALSE_ALARM, bars - 1)) * (1 / rows + 1 / baseline) if bars > 1 else 0.0


def _figure(metric: str, value: float, warn: float, limit: float, rows: float, part: str = "all") -> DriftFigure:
    return DriftFigure(metric, float(value), float(warn), float(limit), int(rows), part)
