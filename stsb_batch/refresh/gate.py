"""Decide whether a challenger may replace the champion. Pure: labels and scores of the frozen test pairs in, verdict out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MIN_TEST = 20  # below this many pairs scores without any skill pass the floor more than once in 400 tries
SMALL_TEST = 1_300  # below this many pairs the interval of delta r is wider than the margin it is held against
MIN_SLICE = 30  # pairs of a slice below which it is not held against anything
MIN_SPREAD = 0.01  # standard deviation of scores below which they count as constant
ONE_SIDED_95 = 1.645
DRAWS_AT_ONCE = 4_000_000  # pairs x draws held in memory

Check = tuple[bool, str]


@dataclass(frozen=True)
class GateLimits:
    """What a challenger has to hold: Pearson floor, the loss of r and the growth of MSE that count as no worse, the leak."""

    floor: float = 0.6
    margin: float = 0.01
    mse_growth: float = 1.10
    slice_growth: float = 1.25
    leaked_share: float = 0.01
    golden_gap: float = 0.001
    draws: int = 2_000
    seed: int = 42


@dataclass(frozen=True)
class GateDecision:
    """The verdict, a line for each check, and the figures behind them."""

    passed: bool
    checks: list[str]
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def with_check(self, check: Check) -> "GateDecision":
        """Return the decision with one more check; it passes only where both do."""
        return GateDecision(self.passed and check[0], [*self.checks, _line(check)], self.notes, self.figures)


def leak_check(leaked: int, pairs: int, limits: GateLimits | None = None) -> Check:
    """Hold the number of test pairs that are also in train or val, in either order, against the limit."""
    allowed = int((limits or GateLimits()).leaked_share * pairs)
    return leaked <= allowed, f"{leaked} of {pairs} test pairs are also in train or val, at most {allowed} may be"


def golden_check(gap: float, pairs: int, limits: GateLimits | None = None) -> Check:
    """Hold the largest gap between scores of this process and of a fresh one against the limit; NaN never passes."""
    limit = (limits or GateLimits()).golden_gap
    return gap <= limit, f"a fresh process gives {pairs} test pairs the same scores: largest gap {gap:.5f}, limit {limit:g}"


def decide(
    labels: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray | None = None,
    limits: GateLimits | None = None,
    *,
    slices: np.ndarray | None = None,
    also: Sequence[Check] = (),
) -> GateDecision:
    """Compare two models' scores of the same test pairs, each array (pairs,).

    The challenger passes when its scores are finite and vary, its Pearson r is above the floor, and, where there is a
    champion, the one-sided 95 % lower bound of the paired bootstrap of r(challenger) - r(champion) is above -margin, its
    MSE has not grown by more than the limit, and no part of `slices` (names, (pairs,)) is surely worse. The first model
    ever meets only the floor. `also` are checks that were made elsewhere; all must hold.
    """
    limits = limits or GateLimits()
    notes = []
    if not np.isfinite(challenger).all():
        bad = int((~np.isfinite(challenger)).sum())
        return _verdict([*also, (False, f"{bad} of {len(challenger)} scores are not finite")], notes, {})
    if challenger.std() < MIN_SPREAD or labels.std() < MIN_SPREAD:
        return _verdict([*also, (False, "scores or labels are all the same")], notes, {})
    labels, challenger = labels.astype(np.float64), challenger.astype(np.float64)
    r = float(np.corrcoef(labels, challenger)[0, 1])
    figures = {"pearson": r, "mse": float(np.mean((labels - challenger) ** 2))}
    checks = [*also, (r > limits.floor, f"Pearson {r:.4f} above the floor {limits.floor:.2f}")]
    needed = SMALL_TEST
    if champion is not None and not np.isfinite(champion).all():
        notes.append("the champion's scores are not all finite; the challenger meets only the floor")
        champion = None
    if champion is not None:
        found, compared = _compare(labels, challenger, champion.astype(np.float64), limits)
        figures |= found
        checks += compared
        needed = math.ceil(len(labels) * ((found["delta_pearson"] - found["delta_lower"]) / limits.margin) ** 2)
        if slices is not None:
            checks += _slice_checks(labels, challenger, champion, slices, limits)
            names, sizes = np.unique(slices, return_counts=True)
            small = names[sizes < MIN_SLICE]
            if len(small):
                said = ", ".join(small[:10]) + (", ..." if len(small) > 10 else "")
                notes.append(f"{len(small)} slices have fewer than {MIN_SLICE} pairs and are held against nothing: {said}")
    if len(labels) < min(SMALL_TEST, needed):
        notes.append(
            f"{len(labels)} test pairs are few: about {needed:,} are needed to tell a loss of {limits.margin:g} from none; "
            "with fewer an equal model can fail"
        )
    return _verdict(checks, notes, figures)


def _line(check: Check) -> str:
    return f"{'PASS' if check[0] else 'FAIL'} {check[1]}"


def _verdict(checks: list[Check], notes: list[str], figures: dict[str, float]) -> GateDecision:
    return GateDecision(all(passed for passed, _ in checks), [_line(check) for check in checks], notes, figures)


def _compare(
    labels: np.ndarray, challenger: np.ndarray, champion: np.ndarray, limits: GateLimits
) -> tuple[dict[str, float], list[Check]]:
    """Return the figures and checks of challenger against champion: delta of r with its interval, growth of MSE."""
    r, champion_r = (_correlations(labels, scores, np.ones((1, len(labels))))[0] for scores in (challenger, champion))
    mse, champion_mse = (float(np.mean((labels - scores) ** 2)) for scores in (challenger, champion))
    lower, upper = np.quantile(_bootstrap_deltas(labels, challenger, champion, limits), [0.05, 0.95])
    figures = {
        "champion_pearson": float(champion_r),
        "champion_mse": champion_mse,
        "delta_pearson": float(r - champion_r),
        "delta_lower": float(lower),
        "delta_upper": float(upper),
    }
    delta = f"delta Pearson {r - champion_r:+.4f} (90 % interval {lower:+.4f} to {upper:+.4f})"
    mse_limit = champion_mse * limits.mse_growth
    return figures, [
        (bool(lower > -limits.margin), f"{delta}, lower bound above {-limits.margin:+.3f}"),
        (mse <= mse_limit, f"MSE {mse:.4f} at most {mse_limit:.4f}"),
    ]


def _slice_checks(
    labels: np.ndarray, challenger: np.ndarray, champion: np.ndarray, slices: np.ndarray, limits: GateLimits
) -> list[Check]:
    """Hold the MSE of each slice against the champion's; one fails when its growth is above the limit beyond chance.

    Beyond chance: the one-sided 95 % lower bound of the mean of e_challenger^2 - growth x e_champion^2 over the slice's
    pairs is above zero (normal approximation; slices below `MIN_SLICE` pairs are left out).
    """
    own, theirs = (labels - challenger) ** 2, (labels - champion) ** 2
    checks = []
    for name in np.unique(slices):
        rows = slices == name
        if rows.sum() < MIN_SLICE:
            continue
        excess = own[rows] - limits.slice_growth * theirs[rows]
        lower = excess.mean() - ONE_SIDED_95 * excess.std(ddof=1) / math.sqrt(rows.sum())
        figures = f"MSE {own[rows].mean():.4f}, champion {theirs[rows].mean():.4f}, {rows.sum()} pairs"
        checks.append((bool(lower <= 0), f"slice {name}: {figures}, not surely above {limits.slice_growth:g} times"))
    return checks


def _bootstrap_deltas(labels: np.ndarray, challenger: np.ndarray, champion: np.ndarray, limits: GateLimits) -> np.ndarray:
    """Return r(challenger) - r(champion) on resamples of the pairs, the same rows for both (Efron 1979): (draws,)."""
    rng = np.random.default_rng(limits.seed)
    deltas = []
    at_once = max(1, min(limits.draws, DRAWS_AT_ONCE // len(labels)))
    for begin in range(0, limits.draws, at_once):
        draws = min(at_once, limits.draws - begin)
        picked = rng.integers(0, len(labels), (draws, len(labels)))
        counts = np.stack([np.bincount(rows, minlength=len(labels)) for rows in picked]).astype(np.float64)  # (draws, pairs)
        deltas.append(_correlations(labels, challenger, counts) - _correlations(labels, champion, counts))
    return np.concatenate(deltas)


def _correlations(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return Pearson r of x and y (pairs,) under each row of counts (draws, pairs): (draws,), 0 where one does not vary."""
    x, y = x - x.mean(), y - y.mean()
    moments = counts @ np.stack([x, y, x * x, y * y, x * y], axis=1) / counts.sum(1, keepdims=True)  # (draws, 5)
    mean_x, mean_y, xx, yy, xy = moments.T
    variances = np.maximum(xx - mean_x**2, 0) * np.maximum(yy - mean_y**2, 0)
    return np.divide(xy - mean_x * mean_y, np.sqrt(variances), out=np.zeros(len(counts)), where=variances > 1e-12)
