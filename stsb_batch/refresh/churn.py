"""What changes for the warehouse when a challenger becomes champion: the two models' scores of the same real pairs. Pure."""

from dataclasses import dataclass

import numpy as np

WORST = 10


@dataclass(frozen=True)
class Mover:
    """A pair whose score moves, by its position in the sample."""

    position: int
    champion: float
    challenger: float


@dataclass(frozen=True)
class Churn:
    """How far the challenger's scores are from the champion's: the mean shift, Spearman rho between the two, the share of
    pairs that cross each threshold, and the worst movers, worst first. `spearman` is None where scores do not vary."""

    pairs: int
    mean_shift: float
    mean_move: float
    spearman: float | None
    crossing: dict[str, float]
    movers: list[Mover]


def measure_churn(champion: np.ndarray, challenger: np.ndarray, thresholds: tuple[float, ...]) -> Churn:
    """Compare two models' scores (pairs,) of the same pairs; pairs that either leaves unscored (NaN) count for nothing."""
    from scipy.stats import spearmanr

    both = np.flatnonzero(np.isfinite(champion) & np.isfinite(challenger))
    old, new = champion[both].astype(np.float64), challenger[both].astype(np.float64)
    if not len(both):
        return Churn(0, 0.0, 0.0, None, {f"{limit:g}": 0.0 for limit in thresholds}, [])
    varies = len(both) > 1 and old.std() > 0 and new.std() > 0
    worst = np.argsort(-np.abs(new - old), kind="stable")[:WORST]
    return Churn(
        pairs=len(both),
        mean_shift=float(np.mean(new - old)),
        mean_move=float(np.mean(np.abs(new - old))),
        spearman=float(spearmanr(old, new).statistic) if varies else None,
        crossing={f"{limit:g}": float(np.mean((old >= limit) != (new >= limit))) for limit in thresholds},
        movers=[Mover(int(both[row]), float(old[row]), float(new[row])) for row in worst],
    )


def churn_check(churn: Churn, limit: float | None) -> tuple[bool, str]:
    """Hold the largest share of pairs that cross a threshold against the limit; None holds it against nothing.

    A limit that no pair could be held against is not kept.
    """
    share = max(churn.crossing.values(), default=0.0)
    crossing = ", ".join(f"{value:.2%} cross {name}" for name, value in churn.crossing.items())
    rank = "-" if churn.spearman is None else f"{churn.spearman:.4f}"
    said = f"churn of {churn.pairs} pairs: mean shift {churn.mean_shift:+.3f}, Spearman {rank}, {crossing}"
    if limit is None:
        return True, said
    return churn.pairs > 0 and share <= limit, f"{said}, at most {limit:.2%} may"
