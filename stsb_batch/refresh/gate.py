"""Decide whether a challenger may replace the champion. Labels and scores of the frozen test pairs in, a decision out.

Reads no file and loads no model: `refresh/judge.py` gathers the scores, `refresh/job.py` acts on the decision.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

MIN_TEST = 20  # with fewer test pairs, random scores exceed the floor more than once in 400 tries
SMALL_TEST = 1_300  # with fewer test pairs, the interval of delta r is wider than the margin
MIN_SLICE = 30  # a slice with fewer pairs is not compared
MIN_SPREAD = 0.01  # scores with a smaller standard deviation count as constant
ONE_SIDED_95 = 1.645
BOOTSTRAP_CELLS = 4_000_000  # pairs x draws held in memory


@dataclass(frozen=True)
class GateLimits:
    """The limits of the gate.

    `floor`: Pearson r on the test pairs must exceed it. `margin`: loss of r that still counts as no worse. `mse_growth`,
    `slice_growth`: MSE of the challenger over the champion's, on all test pairs and on a slice. `leaked_share`: share of
    the test pairs that may also be in train or val. `golden_gap`: largest difference of a score between two processes.
    `draws`, `seed`: of the bootstrap.
    """

    floor: float = 0.6
    margin: float = 0.01
    mse_growth: float = 1.10
    slice_growth: float = 1.25
    leaked_share: float = 0.01
    golden_gap: float = 0.001
    draws: int = 2_000
    seed: int = 42


@dataclass(frozen=True)
class Check:
    """One condition of the gate: a stable name, and a sentence with its figures and its limit."""

    passed: bool
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'} {self.detail}"


@dataclass(frozen=True)
class GateDecision:
    """The decision, its checks, notes for the reader, and the figures behind the checks."""

    passed: bool
    checks: list[Check]
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_card(cls, gate: dict[str, Any]) -> "GateDecision":
        """Read the decision from the entry `gate` of a model card.

        Version 0.1.0 wrote each check as a string, `PASS ` or `FAIL ` and its detail; these checks have no name.
        """
        checks = [
            Check(check.startswith("PASS"), "", check[5:]) if isinstance(check, str) else Check(**check)
            for check in gate["checks"]
        ]
        return cls(**gate | {"checks": checks})

    @property
    def failed(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.passed]

    def with_check(self, check: Check) -> "GateDecision":
        """Return the decision with one more check, which must pass as well."""
        return replace(self, passed=self.passed and check.passed, checks=[*self.checks, check])


def leak_check(leaked: int, pairs: int, limits: GateLimits | None = None) -> Check:
    """Compare the number of test pairs that are also in train or val, in either order, with the limit."""
    allowed = int((limits or GateLimits()).leaked_share * pairs)
    detail = f"{leaked} of {pairs} test pairs are also in train or val, at most {allowed} allowed"
    return Check(leaked <= allowed, "leaked_pairs", detail)


def golden_check(gap: float, pairs: int, limits: GateLimits | None = None) -> Check:
    """Compare the largest difference between scores of this process and of a fresh one with the limit; NaN never passes."""
    limit = (limits or GateLimits()).golden_gap
    detail = f"scores of {pairs} test pairs in a fresh process: largest difference {gap:.5f}, at most {limit:g} allowed"
    return Check(gap <= limit, "golden_scores", detail)


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

    The challenger passes when all of this holds:
    - its scores are finite and vary, and its Pearson r is above the floor;
    - against a champion: the one-sided 95 % lower bound of r(challenger) - r(champion), from a paired bootstrap of the
      pairs, is above -margin;
    - against a champion: its MSE has not grown beyond the limit, neither overall nor, beyond chance, on one of `slices`
      (the slice's name of each pair, (pairs,));
    - the checks in `also`, which were made elsewhere, passed.
    """
    limits = limits or GateLimits()
    notes: list[str] = []
    if not np.isfinite(challenger).all():
        bad = int((~np.isfinite(challenger)).sum())
        return _decision([*also, Check(False, "finite", f"{bad} of {len(challenger)} scores are not finite")], notes, {})
    if challenger.std() < MIN_SPREAD or labels.std() < MIN_SPREAD:
        return _decision([*also, Check(False, "spread", "scores or labels are all the same")], notes, {})
    labels, challenger = labels.astype(np.float64), challenger.astype(np.float64)
    r = float(np.corrcoef(labels, challenger)[0, 1])
    figures = {"pearson": r, "mse": float(np.mean((labels - challenger) ** 2))}
    detail = f"Pearson {r:.4f}, must be above the floor {limits.floor:g}"
    checks = [*also, Check(r > limits.floor, "pearson", detail)]
    needed: float = SMALL_TEST if champion is None else 0
    if champion is not None and not np.isfinite(champion).all():
        notes.append("the champion's scores are not all finite, so the challenger was compared with the floor only")
        champion = None
    if champion is not None:
        found, compared = _compare(labels, challenger, champion.astype(np.float64), limits)
        figures |= found
        checks += compared
        if found["delta_lower"] <= -limits.margin < found["delta_upper"]:  # neither clearly worse nor clearly not
            needed = len(labels) * ((found["delta_pearson"] - found["delta_lower"]) / limits.margin) ** 2
        if slices is not None:
            checks += _slice_checks(labels, challenger, champion, slices, limits)
            names, sizes = np.unique(slices, return_counts=True)
            small = names[sizes < MIN_SLICE]
            if len(small):
                listed = ", ".join(small[:10]) + (", ..." if len(small) > 10 else "")
                notes.append(f"slices with fewer than {MIN_SLICE} pairs were not compared ({len(small)}): {listed}")
    if len(labels) < needed:
        notes.append(
            f"{len(labels)} test pairs are few: about {float(f'{needed:.2g}'):,.0f} are needed to distinguish a loss of "
            f"{limits.margin:g} from none; with fewer, an equal model can fail"
        )
    return _decision(checks, notes, figures)


def _decision(checks: list[Check], notes: list[str], figures: dict[str, float]) -> GateDecision:
    return GateDecision(all(check.passed for check in checks), checks, notes, figures)


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
        Check(bool(lower > -limits.margin), "delta_pearson", f"{delta}, lower bound must be above {-limits.margin:+.3f}"),
        Check(mse <= mse_limit, "mse", f"MSE {mse:.4f}, must be at most {mse_limit:.4f}"),
    ]


def _slice_checks(
    labels: np.ndarray, challenger: np.ndarray, champion: np.ndarray, slices: np.ndarray, limits: GateLimits
) -> list[Check]:
    """Compare the MSE of each slice with the champion's; a slice fails when its growth is above the limit beyond chance.

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
        detail = f"slice {name}: {figures}, must not be above {limits.slice_growth:g} times the champion's beyond chance"
        checks.append(Check(bool(lower <= 0), f"slice {name}", detail))
    return checks


def _bootstrap_deltas(labels: np.ndarray, challenger: np.ndarray, champion: np.ndarray, limits: GateLimits) -> np.ndarray:
    """Return r(challenger) - r(champion) on resamples of the pairs, the same rows for both (Efron 1979): (draws,)."""
    rng = np.random.default_rng(limits.seed)
    deltas = []
    at_once = max(1, min(limits.draws, BOOTSTRAP_CELLS // len(labels)))
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
