"""Score shards: read and tokenise ahead, score, write and commit behind, across the shards of a call.

So neither the end of a shard nor its commit lets a device wait, however small the files are. Nobody else knows threads.
"""

import contextlib
import ctypes
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from stsb_batch.errors import BadFileError, escape_control
from stsb_batch.inference.pipeline import PairScorer, PreparedPairs, ScoredPairs
from stsb_batch.inference.scorer import same_bits
from stsb_batch.pairs import source
from stsb_batch.pairs.source import Shard, Window
from stsb_batch.scoring.monitor import RunMonitor, watchdog
from stsb_batch.scoring.shard_writer import ShardWriter
from stsb_batch.scoring.spec import ScoreSpec, ShardResult
from stsb_batch.scoring.threads import BackgroundWriter, Stages, prefetch

log = logging.getLogger(__name__)
PREPARERS = {"cuda": 2}  # threads that tokenise: on the machine of an H100 one alone was slower than the card
OpenScorer = Callable[[ScoreSpec], PairScorer]


def score_shards(
    spec: ScoreSpec, shards: Sequence[Shard], monitor: RunMonitor, *, open_scorer: OpenScorer = ScoreSpec.open_scorer
) -> Generator[ShardResult, None, None]:
    """Score and commit shards; yields a result for each, in order, once it is committed or its file turned out bad.

    The model is opened once, unless no shard has a row. Whatever else goes wrong is raised in its shard's turn: what was
    yielded is committed, and a call with the rest goes on. Closing the generator waits for the threads inside.
    """
    output: ShardWriter | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(watchdog(monitor, spec.stall_seconds))
        scorer = open_scorer(spec) if any(shard.rows for shard in shards) else None
        verdict = same_bits(scorer, spec.checkpoint, spec.cache) if scorer else None
        monitor.beat()
        stream = _Stream(spec, shards, scorer, monitor)
        stack.callback(lambda: output.close() if output else None)
        results = stack.enter_context(contextlib.closing(stream.results()))
        writer = stack.enter_context(BackgroundWriter())
        while stream.turn:
            shard, clock = stream.turn[0], stream.clock
            try:
                with clock.timed("score"):
                    item, scored = next(results)
            except Exception:
                yield from _finished(writer)
                raise
            with clock.timed("wait for output"):
                finished = _finished(writer)
            yield from finished
            if item.error and not isinstance(item.error, BadFileError):
                raise item.error
            assert item.shard is shard, f"bug: {shard.output}: rows of another shard; nothing of it was committed"
            output = output or ShardWriter(spec, shard, clock, verdict)
            if item.window is not None:
                writer.start(output.add, item.window, item.prepared, scored, scorer)
            else:
                writer.start(output.finish, item.error, monitor)
                stream.turn.popleft()
                output = None
            release_memory()
        yield from _finished(writer)


def _finished(writer: BackgroundWriter) -> list[ShardResult]:
    """Wait for the writer; returns the result of the shard that it has finished, if any.

    Logs here and not in the writer's thread, which belongs to no Prefect run.
    """
    result: ShardResult | None = writer.wait()
    if result is None:
        return []
    if result.committed:
        log.info("%s: %d rows in %.1f s", escape_control(result.output), result.committed.rows, result.seconds)
    return [result]


@dataclass(frozen=True)
class _Item:
    """A window of a shard, read, then tokenised; or (without a window) the shard's end, perhaps by an error."""

    shard: Shard
    window: Window | None = None
    prepared: PreparedPairs | None = None
    error: Exception | None = None


class _Stream:
    """The windows of some shards with their scores, each shard with a last item that ends it.

    `turn` holds the shards that have not ended; what the scoring thread waits for counts as time of the first of them.
    """

    def __init__(self, spec: ScoreSpec, shards: Sequence[Shard], scorer: PairScorer | None, monitor: RunMonitor) -> None:
        self._spec, self._scorer, self._monitor = spec, scorer, monitor
        self.turn, self._clocks = deque(shards), {shard.output: Stages() for shard in shards}

    @property
    def clock(self) -> Stages:
        return self._clocks[self.turn[0].output]

    def results(self) -> Generator[tuple[_Item, ScoredPairs | None], None, None]:
        workers = PREPARERS.get(self._spec.choice.device, 1)
        with contextlib.closing(prefetch(self._read(list(self.turn)), self._prepare, workers)) as items:
            if self._scorer is None:
                yield from ((item, None) for item in items)
            else:
                with contextlib.closing(self._scorer.score_windows(self._windows(items), self._monitor.add)) as scored:
                    yield from scored

    def _read(self, shards: list[Shard]) -> Iterator[_Item]:
        """Read window by window. A bad file ends its shard, any other error the reading."""
        for shard in shards:
            clock, error = self._clocks[shard.output], None
            windows = source.read_windows(shard, self._spec.columns.texts)
            while True:
                try:
                    with clock.timed("read"):
                        window = next(windows, None)
                except Exception as found:  # noqa: BLE001 - it is raised in the shard's turn
                    window, error = None, found
                if window is None:
                    break
                yield _Item(shard, window)
            yield _Item(shard, error=error)
            if error and not isinstance(error, BadFileError):
                return

    def _prepare(self, item: _Item) -> _Item:
        if item.window is None or self._scorer is None:
            return item
        rows, columns = item.window.rows, self._spec.columns
        try:
            with self._clocks[item.shard.output].timed("tokenise"):
                return replace(item, prepared=self._scorer.prepare(rows.column(columns.left), rows.column(columns.right)))
        except Exception as error:  # noqa: BLE001 - as above
            return _Item(item.shard, error=error)

    def _windows(self, items: Iterator[_Item]) -> Iterator[tuple[_Item, PreparedPairs | None]]:
        while True:
            with self.clock.timed("wait for input", within="score"):
                item = next(items, None)
            if item is None:
                return
            yield item, item.prepared


def release_memory() -> None:
    """Return what a window needed to the system: Arrow's pool and, with glibc, the C heap keep it otherwise."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
