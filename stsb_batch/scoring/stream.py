"""The line that the shards of a job go through: reading and tokenising run ahead of the engine, into later shards too.

So neither the end of a shard nor its commit lets a device wait, however small the files are.
"""

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock
from time import perf_counter
from typing import TypeVar

from stsb_batch.errors import StsbBatchError
from stsb_batch.inference.pipeline import PairScorer, PreparedPairs, Progress, ScoredPairs
from stsb_batch.inference.scorer import same_bits
from stsb_batch.pairs import source
from stsb_batch.pairs.source import Shard, Window
from stsb_batch.scoring.plan import ScorePlan

Item, Done = TypeVar("Item"), TypeVar("Done")
END = object()
PREPARERS = {"cuda": 2}  # threads that tokenise: on an H100's machine one alone was slower than the card


@contextlib.contextmanager
def ahead(items: Iterator[Item], work: Callable[[Item], Done], workers: int) -> Iterator[Iterator[Done]]:
    """Do `work` on each item in so many threads, each an item ahead of whoever takes the results, which come in order.

    The items are taken in a thread of their own.
    """
    with ThreadPoolExecutor(1, "stsb-batch reader") as reader, ThreadPoolExecutor(workers, "stsb-batch worker") as pool:

        def take() -> Iterator[Done]:
            coming, under_way = reader.submit(next, items, END), deque()
            while (item := coming.result()) is not END:
                coming = reader.submit(next, items, END)
                under_way.append(pool.submit(work, item))
                if len(under_way) > workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()

        yield take()


class Stages:
    """Seconds spent in each stage of a shard's way; several threads may count at a time."""

    def __init__(self) -> None:
        self.seconds, self._lock = Counter(), Lock()

    @contextlib.contextmanager
    def timed(self, stage: str, within: str | None = None) -> Iterator[None]:
        """Count the time for a stage, and take it off the stage `within` which it happens."""
        began = perf_counter()
        yield
        took = perf_counter() - began
        with self._lock:
            self.seconds[stage] += took
            if within:
                self.seconds[within] -= took


@dataclass(frozen=True)
class Part:
    """A window on its way: read, then prepared, then scored; or the error that ended the way of its shard."""

    shard: Shard
    window: Window | None = None
    prepared: PreparedPairs | None = None
    scored: ScoredPairs | None = None
    error: Exception | None = None


class Line:
    """Scores the shards of a job in their order, window by window, as fast as somebody takes what is scored.

    A shard that is asked for out of order (a second try, say) starts the line anew from there.
    """

    def __init__(self, plan: ScorePlan, shards: list[Shard], open_scorer: Callable[[], PairScorer]) -> None:
        self.plan, self.open_scorer = plan, open_scorer
        self._shards = [shard for shard in shards if shard.rows]
        self._open, self._tried = contextlib.ExitStack(), False
        self._stop()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_) -> None:
        self._stop()

    def same_bits(self) -> bool | None:
        """Say whether scores do not depend on neighbours. It is tried before the first window, while the engine is idle."""
        if not self._tried:
            cache = self.plan.request.settings.home / "cache"
            self._same_bits, self._tried = same_bits(self.open_scorer(), self.plan.checkpoint, cache), True
        return self._same_bits

    def begin(self, shard: Shard) -> Stages:
        """Have the line work on a shard, if it does not yet, and return the clock of its stages."""
        if shard.rows and self._coming[:1] != [shard]:
            self._start(shard)
        self._now = self._stages_of(shard)
        return self._now

    def take(self, shard: Shard, progress: Progress) -> Iterator[Part]:
        """Yield the windows of the shard that was begun, as they are scored. Raises what ended its way."""
        self._progress, left = progress, shard.rows
        if not left:
            yield from source.read_windows(shard, None)  # there are none, unless it cannot be read
            return
        try:
            while left:
                with self._now.timed("score"):
                    item = next(self._results, None)
                if self._broken and self._broken.shard == shard:
                    raise self._broken.error
                part, scored = item
                left -= part.window.rows.num_rows
                if left < 0 or part.shard != shard:
                    raise StsbBatchError(f"bug: {shard.output}: rows of another shard; nothing of it was committed.")
                yield replace(part, scored=scored)
            self._coming = self._coming[1:]
            self._stages.pop(shard.output)
        finally:
            if self._coming[:1] == [shard]:
                self._stop()

    def _stop(self) -> None:
        self._open.close()
        self._coming: list[Shard] = []
        self._stages: dict = {}
        self._broken: Part | None = None

    def _start(self, shard: Shard) -> None:
        self._stop()
        self._coming, self._scorer = self._shards[self._shards.index(shard) :], self.open_scorer()
        workers = PREPARERS.get(self.plan.choice.device, 1)
        parts = self._open.enter_context(ahead(self._read(self._coming), self._prepare, workers))
        self._results = self._open.enter_context(contextlib.closing(self._scorer.score_all(self._whole(parts))))

    def _advance(self, rows: int, tokens: int) -> None:
        self._progress(rows, tokens)  # of the shard whose turn it is: batches are finished in their shard's turn only

    def _stages_of(self, shard: Shard) -> Stages:
        return self._stages.setdefault(shard.output, Stages())

    def _read(self, shards: list[Shard]) -> Iterator[Part]:
        """Yield the windows of shards, and at their end the error that ended them."""
        for shard in shards:
            windows = source.read_windows(shard, self.plan.request.columns.texts)
            while True:
                try:
                    with self._stages_of(shard).timed("read"):
                        window = next(windows, None)
                except Exception as error:  # noqa: BLE001 - it is raised in the shard's turn
                    yield Part(shard, error=error)
                    return
                if window is None:
                    break
                yield Part(shard, window)

    def _prepare(self, part: Part) -> Part:
        if part.error:
            return part
        columns = self.plan.request.columns
        left, right = part.window.rows.column(columns.left), part.window.rows.column(columns.right)
        try:
            with self._stages_of(part.shard).timed("tokenise"):
                return replace(part, prepared=self._scorer.prepare(left, right, self._advance))
        except Exception as error:  # noqa: BLE001 - as above
            return Part(part.shard, error=error)

    def _whole(self, parts: Iterator[Part]) -> Iterator[tuple[Part, PreparedPairs]]:
        """Pass on what is prepared, up to the first error: what is under way before it is still scored."""
        while True:
            with self._now.timed("wait for input", within="score"):
                part = next(parts, None)
            if part is None:
                return
            if part.error:
                self._broken = part
                return
            yield part, part.prepared
