"""The forward pass when it fails: out of memory, one poisonous row, a device that is gone."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stsb_batch.errors import DeviceLostError, first_line
from stsb_batch.inference.batches import gather_batch, pack_batch, plan_batches, plan_packed
from stsb_batch.inference.engines import Engine
from stsb_batch.inference.tokens import TokenizedPairs
from stsb_batch.pairs.schema import MODEL_ERROR, OK, OOM

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


def score_guarded(engine: Engine, tokens: TokenizedPairs, rows: np.ndarray, budget: TokenBudget) -> GuardedScores:
    """Score the given rows of `tokens`, as `GuardedRun` does."""
    run = GuardedRun(engine, tokens, rows, budget)
    try:
        run.start()
        return run.finish()
    finally:
        run.leave()


class GuardedRun:
    """The given rows of `tokens` on their way through the engine, in length-ordered batches.

    As many batches as the engine asks for are under way at a time, so that a device never waits for the host. A batch that
    does not fit is cut in half and the budget with it; one that fails otherwise is cut until the rows that fail alone are
    found. Raises `DeviceLostError` when no later batch could succeed in this process.

    For CUDA the batches are laid out and sent to the device at once, so that whoever prepares a run does that work.
    `advance(rows)` hears of each finished batch.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: TokenizedPairs,
        rows: np.ndarray,
        budget: TokenBudget,
        advance: Callable[[np.ndarray], None] = lambda rows: None,
    ) -> None:
        self._engine, self._tokens, self._rows, self._budget, self._advance = engine, tokens, rows, budget, advance
        self._lengths = tokens.lengths[rows]
        self._result = GuardedScores.empty(len(rows))
        self._running: deque[tuple[np.ndarray, Callable[[], np.ndarray]]] = deque()
        self._plan(np.arange(len(rows)))
        if engine.choice.device == "cuda":
            self._stage_all()

    def _plan(self, places: np.ndarray) -> None:
        """Queue batches of the given places in `rows`, none of them staged yet."""
        plan, self._planned = plan_packed if self._engine.packs else plan_batches, self._budget.tokens
        self._queue: deque[tuple[np.ndarray, _Staged | None]] = deque(
            (places[batch], None) for batch in plan(self._lengths[places], self._planned)
        )

    def _stage_all(self) -> None:
        for number, (places, _) in enumerate(self._queue):
            try:
                self._queue[number] = places, self._stage(places)
            except Exception:  # noqa: BLE001 - it is staged again when its turn comes, and fails where that is dealt with
                return

    def start(self) -> None:
        """Start all batches; those that the engine has no room for wait until earlier ones are finished."""
        while self._queue:
            if len(self._running) < self._engine.depth:
                self._submit()
            else:
                self._collect()

    def finish(self, following: "GuardedRun | None" = None) -> GuardedScores:
        """Wait for all batches. With each that is finished one of the `following` run starts, so that a device has work."""
        while self._queue or self._running:
            if self._running:
                self._collect()
            else:
                self._submit()
            if following and following._queue and len(self._running) + len(following._running) < self._engine.depth:
                following._submit()
        return self._result

    def leave(self) -> None:
        """Wait for what is still under way after an error, so that the engine can be used again."""
        while self._running:
            with contextlib.suppress(Exception):
                self._running.popleft()[1]()

    def _submit(self) -> None:
        if self._planned > self._budget.tokens:  # another run has found out in the meantime
            self._plan(self._queued())
        places, staged = self._queue.popleft()
        try:
            staged = staged or self._stage(places)
            self._running.append((places, self._engine.submit(staged.batch)))
        except Exception as error:  # noqa: BLE001 - each backend raises its own kinds, and a row must not cost the run
            self._failed(places, error)
        else:
            self._result.tokens += staged.tokens
            self._result.filling += staged.filling

    def _collect(self) -> None:
        places, collect = self._running.popleft()
        try:
            self._result.scores[places] = collect()[: len(places)]
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(places, error)
        else:
            self._advance(self._rows[places])

    def _stage(self, places: np.ndarray) -> "_Staged":
        used = int(self._lengths[places].sum())
        if self._engine.packs:
            size = max(used, self._planned)
            batch = pack_batch(self._tokens, self._rows[places], size)
        else:
            length = int(self._lengths[places[0]])
            rows = max(len(places), self._budget.filled(length))
            size = rows * length
            batch = gather_batch(self._tokens, self._rows[np.resize(places, rows)])
        return _Staged(self._engine.stage(batch), size, size - used)

    def _failed(self, places: np.ndarray, error: Exception) -> None:
        out_of_memory = _is_out_of_memory(error)
        if not out_of_memory and _is_device_lost(error):
            raise DeviceLostError(f"The device answers no more ({first_line(error)}).") from error
        if len(places) == 1:
            self._result.failures[places] = OOM if out_of_memory else MODEL_ERROR
            log.error("a pair of %d tokens has no score: %s", self._lengths[places[0]], first_line(error))
            self._advance(self._rows[places])
            return
        if out_of_memory:
            self._budget.shrink(int(self._lengths[places].sum()))
            self._plan(self._queued())
        self._queue.extendleft((half, None) for half in reversed(np.array_split(places, 2)))

    def _queued(self) -> np.ndarray:
        return np.concatenate([[], *(places for places, _ in self._queue)]).astype(int)


@dataclass(frozen=True)
class _Staged:
    """A batch as `Engine.stage` returned it, with its tokens and how many of them only fill it up."""

    batch: object
    tokens: int
    filling: int


def _is_out_of_memory(error: Exception) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(phrase in words for phrase in NO_MEMORY)


def _is_device_lost(error: Exception) -> bool:
    words = str(error).lower()
    return any(phrase in words for phrase in DEVICE_LOST)
