"""The forward pass when it fails: out of memory, one poisonous row, a device that is gone."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stsb_batch.errors import DeviceLostError, first_line
from stsb_batch.pairs.schema import MODEL_ERROR, OK, OOM
from stsb_batch.scoring.batches import Batch, PackedBatch, gather_batch, pack_batch, plan_batches, plan_packed
from stsb_batch.scoring.engines import Engine
from stsb_batch.scoring.tokens import TokenizedPairs

log = logging.getLogger(__name__)

EVEN_ROWS = 8  # rows of a batch that is filled up come in multiples of this
FLOOR = 64  # tokens below which the budget is not halved any more
NO_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "failed to allocate")
DEVICE_LOST = ("cuda error", "device-side assert", "cublas_status_execution_failed", "unspecified launch failure")


@dataclass
class TokenBudget:
    """The tokens a batch may have. It shrinks when the device runs out of memory, and stays so for the process.

    With `fixed_shapes` a batch that is not full is filled up with copies of its pairs. All batches of a length then run
    the same kernels, so that a score does not depend on how many pairs happened to share its batch; nor on its place in it,
    because no kernel is left with a few rows over (MKL on AMD takes those in another way). For that a batch may be up to
    seven rows above its tokens.
    """

    tokens: int
    fixed_shapes: bool = False

    def filled(self, length: int) -> int:
        """Return the rows to which a batch of pairs of `length` tokens is filled up: one, or a multiple of `EVEN_ROWS`."""
        rows = self.tokens // length if self.fixed_shapes else 0
        return -(-rows // EVEN_ROWS) * EVEN_ROWS if rows > 1 else 1

    def shrink(self, failed: int) -> None:
        """Remember that a batch of `failed` tokens was too much."""
        self.tokens = max(FLOOR, min(self.tokens, failed) // 2)
        log.warning("out of memory: at most %d tokens in a batch from now on", self.tokens)


@dataclass
class GuardedScores:
    """`scores` (rows,) float32 as the engine gave them, `failures` (rows,) int8: OK, OOM or MODEL_ERROR.

    `tokens` went through the model, `filling` of them only to fill batches up.
    """

    scores: np.ndarray
    failures: np.ndarray
    tokens: int = 0
    filling: int = 0

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

    As many batches as the engine asks for are under way at a time, so that a device never waits for the host. A batch that
    does not fit is cut in half and the budget with it; one that fails otherwise is cut until the rows that fail alone are
    found. Raises `DeviceLostError` when no later batch could succeed in this process.
    """
    run = _Run(engine, tokens, rows, budget)
    try:
        while run.queue or run.running:
            done = run.step()
            if advance and len(done):
                advance(rows[done])
    finally:
        run.leave()
    return run.result


class _Run:
    """Batches that wait in `queue`, and those under way in `running`; both hold places in `rows`."""

    def __init__(self, engine: Engine, tokens: TokenizedPairs, rows: np.ndarray, budget: TokenBudget) -> None:
        self._engine, self._tokens, self._rows, self._budget = engine, tokens, rows, budget
        self._lengths = tokens.lengths[rows]
        self.result = GuardedScores.empty(len(rows))
        self._plan = plan_packed if engine.packs else plan_batches
        self.queue = deque(self._plan(self._lengths, budget.tokens))
        self.running: deque[tuple[np.ndarray, Callable[[], np.ndarray]]] = deque()

    def step(self) -> np.ndarray:
        """Start one batch or finish one; returns the places that are done with it."""
        try:
            if self.queue and len(self.running) < self._engine.depth:
                places = self.queue.popleft()
                self.running.append((places, self._engine.submit(self._gather(places))))
                return places[:0]
            places, collect = self.running.popleft()
            self.result.scores[places] = collect()[: len(places)]
        except Exception as error:  # noqa: BLE001 - each backend raises its own kinds, and a row must not cost the run
            return self._failed(places, error)
        return places

    def leave(self) -> None:
        """Wait for what is still under way after an error, so that the engine can be used again."""
        for _, collect in self.running:
            with contextlib.suppress(Exception):
                collect()

    def _gather(self, places: np.ndarray) -> Batch | PackedBatch:
        if self._engine.packs:
            used = int(self._lengths[places].sum())
            size = max(used, self._budget.tokens)
            self.result.tokens += size
            self.result.filling += size - used
            return pack_batch(self._tokens, self._rows[places], size)
        length = int(self._lengths[places[0]])
        size = max(len(places), self._budget.filled(length))
        self.result.tokens += size * length
        self.result.filling += (size - len(places)) * length
        return gather_batch(self._tokens, self._rows[np.resize(places, size)])

    def _failed(self, places: np.ndarray, error: Exception) -> np.ndarray:
        out_of_memory = _is_out_of_memory(error)
        if not out_of_memory and _is_device_lost(error):
            raise DeviceLostError(f"The device answers no more ({first_line(error)}).") from error
        if len(places) == 1:
            self.result.failures[places] = OOM if out_of_memory else MODEL_ERROR
            log.error("a pair of %d tokens has no score: %s", self._lengths[places[0]], first_line(error))
            return places
        if out_of_memory:
            self._budget.shrink(int(self._lengths[places].sum()))
            rest = np.concatenate([[], *self.queue]).astype(int)
            self.queue = deque(rest[batch] for batch in self._plan(self._lengths[rest], self._budget.tokens))
        self.queue.extendleft(reversed(np.array_split(places, 2)))
        return places[:0]


def _is_out_of_memory(error: Exception) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(phrase in words for phrase in NO_MEMORY)


def _is_device_lost(error: Exception) -> bool:
    words = str(error).lower()
    return any(phrase in words for phrase in DEVICE_LOST)
