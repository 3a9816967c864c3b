"""Churn: how much a challenger's scores of the same real pairs differ from the champion's. Pure: arrays in, figures out."""

from dataclasses import dataclass

import numpy as np

from stsb_batch.refresh.gate import Check

MAX_MOVERS = 10


@dataclass(frozen=True)
class Mover:
    """A pair whose score changes; `position` is its row in the sample, from 0."""

    position: int
    champion: float
    challenger: float


@dataclass(frozen=True)
class Churn:
    """How far the challenger's scores are from the champion's, over the `pairs` that both models scored.

    `mean_shift` and `mean_move` are the mean of challenger - champion and of its absolute value. `spearman` is the rank
    correlation of the two, None where scores do not vary. `crossing` maps each threshold to the share of pairs that lie on
    another side of it than before. `movers` are the pairs whose scores differ most, largest difference first.
    """

    pairs: int
    mean_shift: float
    mean_move: float
    spearman: float | None
    crossing: dict[str, float]
    movers: list[Mover]


def measure_churn(champion: np.ndarray, challenger: np.ndarray, thresholds: tuple[float, ...]) -> Churn:
    """Compare two models' scores (pairs,) of the same pairs; pairs that either model left unscored (NaN) are ignored."""
    from scipy.stats import spearmanr

    both = np.flatnonzero(np.isfinite(champion) & np.isfinite(challenger))
    old, new = champion[both].astype(np.float64), challenger[both].astype(np.float64)
    if not len(both):
        return Churn(0, 0.0, 0.0, None, {f"{limit:g}": 0.0 for limit in thresholds}, [])
    varies = len(both) > 1 and old.std() > 0 and new.std() > 0
    worst = np.argsort(-np.abs(new - old), kind="stable")[:MAX_MOVERS]
    return Churn(
        pairs=len(both),
        mean_shift=float(np.mean(new - old)),
        mean_move=float(np.mean(np.abs(new - old))),
        spearman=float(spearmanr(old, new).statistic) if varies else None,
        crossing={f"{limit:g}": float(np.mean((old >= limit) != (new >= limit))) for limit in thresholds},
        movers=[Mover(int(both[row]), float(old[row]), float(new[row])) for row in worst],
    )


def churn_check(churn: Churn, limit: float | None) -> Check:
    """Compare the largest share of pairs that cross a threshold with the limit; without a limit the check passes.

    With a limit, a sample of which no pair could be scored fails.
    """
    share = max(churn.crossing.values(), default=0.0)
    crossing = ", ".join(f"{value:.2%} cross {name}" for name, value in churn.crossing.items())
    rank = "-" if churn.spearman is None else f"{churn.spearman:.4f}"
    detail = f"churn of {churn.pairs} pairs: mean shift {churn.mean_shift:+.3f}, Spearman {rank}, {crossing}"
    if limit is None:
        return Check(True, "churn", detail)
    return Check(churn.pairs > 0 and share <= limit, "churn", f"{detail}, at most {limit:.2%} allowed")
