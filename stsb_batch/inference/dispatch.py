"""Batches in flight on one engine: the next is submitted, the oldest collected, a failed one cut in half and tried again."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stsb_batch.errors import DeviceLostError, first_line
from stsb_batch.inference.batches import Batch, PackedBatch, gather_batch, pack_batch, plan_batches, plan_packed
from stsb_batch.inference.engines import Engine
from stsb_batch.inference.tokens import TokenizedPairs
from stsb_batch.pairs.schema import MODEL_ERROR, OK, OOM

log = logging.getLogger(__name__)

EVEN_ROWS = 8  # padded batches have a multiple of this many rows
MIN_TOKENS = 64  # the budget is not halved below this
NO_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "failed to allocate")
DEVICE_LOST = ("cuda error", "device-side assert", "cublas_status_execution_failed", "unspecified launch failure")
Count = Callable[[int, int], None]  # takes the rows and tokens of a finished batch


@dataclass
class TokenBudget:
    """The tokens that a batch may have. It shrinks when the device runs out of memory and never grows again.

    With `fixed_shapes` a batch that is not full is padded with copies of its pairs. All batches of one length then run the
    same kernels, so a score does not depend on how many pairs happened to share its batch; nor on its place in it, because
    no kernel is left with a remainder of rows (MKL on AMD computes a remainder in another way). Such a batch may be up to
    seven rows above its budget.
    """

    tokens: int
    fixed_shapes: bool = False

    def padded_rows(self, length: int) -> int:
        """Return the rows to which a batch of pairs of `length` tokens is padded: one, or a multiple of `EVEN_ROWS`."""
        rows = self.tokens // length if self.fixed_shapes else 0
        return -(-rows // EVEN_ROWS) * EVEN_ROWS if rows > 1 else 1

    def shrink(self, failed: int) -> None:
        """Lower the budget after a batch of `failed` tokens did not fit."""
        self.tokens = max(MIN_TOKENS, min(self.tokens, failed) // 2)
        log.warning("out of memory: at most %d tokens in a batch from now on", self.tokens)


@dataclass
class RawScores:
    """`scores` (pairs,) float32 as the engine gave them, NaN for none; `failures` (pairs,) int8: OK, OOM or MODEL_ERROR."""

    scores: np.ndarray
    failures: np.ndarray

    @classmethod
    def empty(cls, pairs: int) -> "RawScores":
        return cls(np.full(pairs, np.nan, np.float32), np.full(pairs, OK, np.int8))

    def replace(self, pairs: np.ndarray, other: "RawScores") -> None:
        self.scores[pairs], self.failures[pairs] = other.scores, other.failures


@dataclass
class Workload:
    """The pairs of a window that the engine scores, and their scores as they come.

    `pairs` (n,) are positions in `tokens`, `lengths` (n,) their tokens, `copies` (n,) how many rows each of them stands for.
    `model_tokens` went through the model, `padding` of them only to fill batches up.
    """

    tokens: TokenizedPairs
    pairs: np.ndarray
    lengths: np.ndarray
    copies: np.ndarray
    result: RawScores
    unfinished: int
    model_tokens: int = 0
    padding: int = 0


@dataclass
class QueuedBatch:
    """Some pairs of a workload (`places` in its `pairs`), planned under a budget of `max_tokens`, perhaps staged."""

    workload: Workload
    places: np.ndarray
    max_tokens: int
    staged: Any = None
    tokens: int = 0  # with padding
    padding: int = 0


@dataclass
class Dispatcher:
    """Owns an engine, its token budget and its queue of batches. One thread dispatches; any thread may call `plan`.

    A batch that does not fit is cut in half, and the budget with it; one that fails otherwise is cut until the pairs that
    fail alone are found. Raises `DeviceLostError` when no later batch could succeed in this process.
    """

    engine: Engine
    budget: TokenBudget
    queue: deque[QueuedBatch] = field(default_factory=deque, init=False)
    in_flight: deque[tuple[QueuedBatch, Callable[[], np.ndarray]]] = field(default_factory=deque, init=False)

    def plan(self, tokens: TokenizedPairs, pairs: np.ndarray, copies: np.ndarray) -> tuple[Workload, list[QueuedBatch]]:
        """Cut pairs (n,) into length-ordered batches; for CUDA lay them out and send them to the device at once."""
        workload = Workload(tokens, pairs, tokens.lengths[pairs], copies, RawScores.empty(len(pairs)), len(pairs))
        batches = self._cut(workload, np.arange(len(pairs)))
        if self.engine.choice.device == "cuda":
            with contextlib.suppress(Exception):  # staged again in its turn, and a failure is dealt with there
                for batch in batches:
                    self._stage(batch)
        return workload, batches

    def add(self, batches: Iterable[QueuedBatch]) -> None:
        """Queue batches; those planned before the budget shrank are cut again."""
        self.queue.extend(batches)
        if any(batch.max_tokens > self.budget.tokens for batch in self.queue):
            self._cut_again()

    def fill(self, count: Count) -> None:
        """Submit batches until the engine has as many as it takes, or none is left."""
        while self.queue and len(self.in_flight) < self.engine.depth:
            batch = self.queue.popleft()
            try:
                if batch.staged is None:
                    self._stage(batch)
                self.in_flight.append((batch, self.engine.submit(batch.staged)))
            except Exception as error:  # noqa: BLE001 - each backend raises its own kinds, and a pair must not cost the run
                self._fail(batch, error, count)
            else:
                batch.workload.model_tokens += batch.tokens
                batch.workload.padding += batch.padding

    def collect(self, count: Count) -> None:
        """Wait for the oldest batch in flight, and submit others in its place."""
        if self.in_flight:
            batch, wait = self.in_flight.popleft()
            batch.staged = None
            try:
                batch.workload.result.scores[batch.places] = wait()[: len(batch.places)]
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(batch, error, count)
            else:
                self._finish(batch, count)
        self.fill(count)

    def clear(self) -> None:
        """Forget what is queued and wait for what is in flight, so that the engine is free after an error."""
        self.queue.clear()
        while self.in_flight:
            with contextlib.suppress(Exception):
                self.in_flight.popleft()[1]()

    def score(self, tokens: TokenizedPairs, pairs: np.ndarray) -> RawScores:
        """Score some pairs and wait for them."""
        workload, batches = self.plan(tokens, pairs, np.ones(len(pairs), np.int64))
        try:
            self.add(batches)
            while workload.unfinished:
                self.collect(lambda rows, tokens: None)
        finally:
            self.clear()
        return workload.result

    def _cut(self, workload: Workload, places: np.ndarray) -> list[QueuedBatch]:
        plan, max_tokens = plan_packed if self.engine.packs else plan_batches, self.budget.tokens
        return [QueuedBatch(workload, places[part], max_tokens) for part in plan(workload.lengths[places], max_tokens)]

    def _cut_again(self) -> None:
        """Cut what is queued under the present budget, workload by workload."""
        places: dict[int, list[QueuedBatch]] = {}
        for batch in self.queue:
            places.setdefault(id(batch.workload), []).append(batch)
        self.queue.clear()
        for batches in places.values():
            self.queue.extend(self._cut(batches[0].workload, np.concatenate([batch.places for batch in batches])))

    def _stage(self, batch: QueuedBatch) -> None:
        workload, pairs, lengths = batch.workload, batch.workload.pairs[batch.places], batch.workload.lengths[batch.places]
        used = int(lengths.sum())
        if self.engine.packs:
            batch.tokens = max(used, batch.max_tokens)
            laid_out: Batch | PackedBatch = pack_batch(workload.tokens, pairs, batch.tokens)
        else:
            rows = max(len(pairs), self.budget.padded_rows(int(lengths[0])))
            batch.tokens = rows * int(lengths[0])
            laid_out = gather_batch(workload.tokens, np.resize(pairs, rows))
        batch.padding = batch.tokens - used
        batch.staged = self.engine.stage(laid_out)

    def _finish(self, batch: QueuedBatch, count: Count) -> None:
        workload, places = batch.workload, batch.places
        workload.unfinished -= len(places)
        count(int(workload.copies[places].sum()), int(workload.lengths[places].sum()))

    def _fail(self, batch: QueuedBatch, error: Exception, count: Count) -> None:
        out_of_memory = _is_out_of_memory(error)
        if not out_of_memory and _is_device_lost(error):
            raise DeviceLostError(f"The device has stopped responding ({first_line(error)}).") from error
        workload, places = batch.workload, batch.places
        lengths = workload.lengths[places]
        if len(places) == 1:
            workload.result.failures[places] = OOM if out_of_memory else MODEL_ERROR
            log.error("a pair of %d tokens has no score: %s", lengths[0], first_line(error))
            self._finish(batch, count)
            return
        if out_of_memory:
            self.budget.shrink(int(lengths.sum()))
            self._cut_again()
        halves = (QueuedBatch(workload, half, self.budget.tokens) for half in reversed(np.array_split(places, 2)))
        self.queue.extendleft(halves)


def _is_out_of_memory(error: Exception) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(phrase in words for phrase in NO_MEMORY)


def _is_device_lost(error: Exception) -> bool:
    words = str(error).lower()
    return any(phrase in words for phrase in DEVICE_LOST)
