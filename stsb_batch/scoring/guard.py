"""The forward pass when it fails: out of memory, one poisonous row, a device that is gone."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stsb_batch.errors import DeviceLostError
from stsb_batch.pairs.schema import MODEL_ERROR, OK, OOM
from stsb_batch.scoring.batches import gather_batch, plan_batches
from stsb_batch.scoring.engines import Engine
from stsb_batch.scoring.tokens import TokenizedPairs

log = logging.getLogger(__name__)

FLOOR = 64  # tokens below which the budget is not halved any more
NO_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "failed to allocate")
DEVICE_LOST = ("cuda error", "device-side assert", "cublas_status_execution_failed", "unspecified launch failure")


@dataclass
class TokenBudget:
    """The tokens a batch may have. It shrinks when the device runs out of memory, and stays so for the process."""

    tokens: int

    def shrink(self, failed: int) -> None:
        """Remember that a batch of `failed` tokens was too much."""
        self.tokens = max(FLOOR, min(self.tokens, failed) // 2)
        log.warning("out of memory: at most %d tokens in a batch from now on", self.tokens)


@dataclass
class GuardedScores:
    """`scores` (rows,) float32 as the engine gave them, `failures` (rows,) int8: OK, OOM or MODEL_ERROR."""

    scores: np.ndarray
    failures: np.ndarray

    @classmethod
    def empty(cls, rows: int) -> "GuardedScores":
        return cls(np.full(rows, np.nan, np.float32), np.full(rows, OK, np.int8))

    def replace(self, rows: np.ndarray, other: "GuardedScores") -> None:
        self.scores[rows], self.failures[rows] = other.scores, other.failures


def score_guarded(
    engine: Engine,
    tokens: TokenizedPairs,
    rows: np.ndarray,
    budget: TokenBudget,
    advance: Callable[[np.ndarray], None] | None = None,
) -> GuardedScores:
    """Score the given rows of `tokens` in length-ordered batches; `advance(rows)` hears of each finished batch.

    A batch that does not fit is cut in half and the budget with it; one that fails otherwise is cut until the rows that
    fail alone are found. Raises `DeviceLostError` when no later batch could succeed in this process.
    """
    result, lengths = GuardedScores.empty(len(rows)), tokens.lengths[rows]
    queue = deque(plan_batches(lengths, budget.tokens))
    while queue:
        places = queue.popleft()
        try:
            result.scores[places] = engine.score(gather_batch(tokens, rows[places]))
        except Exception as error:  # each backend raises its own kinds, and a row must not cost the run
            out_of_memory = _is_out_of_memory(error)
            if not out_of_memory and _is_device_lost(error):
                raise DeviceLostError(f"The device answers no more ({_first_line(error)}).") from error
            if len(places) == 1:
                result.failures[places] = OOM if out_of_memory else MODEL_ERROR
                log.error("a pair of %d tokens has no score: %s", lengths[places[0]], _first_line(error))
            else:
                if out_of_memory:
                    budget.shrink(int(lengths[places].sum()))
                    rest = np.concatenate([[], *queue]).astype(int)
                    queue = deque(rest[batch] for batch in plan_batches(lengths[rest], budget.tokens))
                queue.extendleft(reversed(np.array_split(places, 2)))
                continue
        if advance:
            advance(rows[places])
    return result


def _is_out_of_memory(error: Exception) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(phrase in words for phrase in NO_MEMORY)


def _is_device_lost(error: Exception) -> bool:
    words = str(error).lower()
    return any(phrase in words for phrase in DEVICE_LOST)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}" if str(error) else type(error).__name__
