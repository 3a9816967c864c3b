"""Decide whether a challenger may replace the champion. Pure: labels and scores of the frozen test pairs in, verdict out."""

from dataclasses import dataclass, field

import numpy as np

SMALL_TEST = 1_300  # below this many pairs the interval of delta r is wider than the margin it is held against


@dataclass(frozen=True)
class GateLimits:
    """What a challenger has to hold: Pearson floor, the loss of r and the growth of MSE that count as no worse."""

    floor: float = 0.6
    margin: float = 0.01
    mse_growth: float = 1.10
    draws: int = 2_000
    seed: int = 42


@dataclass(frozen=True)
class GateDecision:
    """The verdict, a line for each check, and the figures behind them."""

    passed: bool
    checks: list[str]
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


def decide(
    labels: np.ndarray, challenger: np.ndarray, champion: np.ndarray | None = None, limits: GateLimits | None = None
) -> GateDecision:
    """Compare two models' scores of the same test pairs, each array (pairs,).

    The challenger passes when its scores are finite and vary, its Pearson r is above the floor, and, where there is a
    champion, the one-sided 95 % lower bound of the paired bootstrap of r(challenger) - r(champion) is above -margin and
    its MSE has not grown by more than the limit. The first model ever meets only the floor.
    """
    limits = limits or GateLimits()
    notes = (
        []
        if len(labels) >= SMALL_TEST
        else [f"{len(labels)} test pairs are few: below {SMALL_TEST} an equal model can fail"]
    )
    if not np.isfinite(challenger).all():
        return GateDecision(False, ["FAIL scores are not all finite"], notes)
    if challenger.std() < 1e-6 or labels.std() < 1e-6:
        return GateDecision(False, ["FAIL scores or labels are all the same"], notes)
    r = _pearson(labels, challenger)
    figures = {"pearson": r, "mse": float(np.mean((labels - challenger) ** 2))}
    checks = [(r > limits.floor, f"Pearson {r:.4f} above the floor {limits.floor:.2f}")]
    if champion is not None:
        champion_r, champion_mse = _pearson(labels, champion), float(np.mean((labels - champion) ** 2))
        deltas = _bootstrap_deltas(labels, challenger, champion, limits)
        lower, upper = np.quantile(deltas, [0.05, 0.95])
        figures |= {
            "champion_pearson": champion_r,
            "champion_mse": champion_mse,
            "delta_pearson": r - champion_r,
            "delta_lower": float(lower),
            "delta_upper": float(upper),
        }
        delta = f"delta Pearson {r - champion_r:+.4f} (90 % interval {lower:+.4f} to {upper:+.4f})"
        checks.append((lower > -limits.margin, f"{delta}, lower bound above {-limits.margin:+.3f}"))
        mse_limit = champion_mse * limits.mse_growth
        checks.append((figures["mse"] <= mse_limit, f"MSE {figures['mse']:.4f} at most {mse_limit:.4f}"))
    return GateDecision(
        passed=all(passed for passed, _ in checks),
        checks=[f"{'PASS' if passed else 'FAIL'} {text}" for passed, text in checks],
        notes=notes,
        figures=figures,
    )


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x.astype(np.float64), y.astype(np.float64))[0, 1])


def _bootstrap_deltas(labels: np.ndarray, challenger: np.ndarray, champion: np.ndarray, limits: GateLimits) -> np.ndarray:
    """Return r(challenger) - r(champion) on `draws` resamples of the pairs, the same rows for both (Efron 1979)."""
    rng = np.random.default_rng(limits.seed)
    deltas = np.empty(limits.draws)
    for draw in range(limits.draws):
        rows = rng.integers(0, len(labels), len(labels))
        if labels[rows].std() < 1e-6:
            deltas[draw] = 0.0
            continue
        deltas[draw] = _pearson(labels[rows], challenger[rows]) - _pearson(labels[rows], champion[rows])
    return deltas
