"""One shard from input to committed output: read, tokenise, score, check and write, each in threads of its own."""

import contextlib
import ctypes
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from threading import Lock
from typing import TypeVar

import numpy as np
import pyarrow as pa

from stsb_batch.errors import BadDataError, StsbBatchError, shown
from stsb_batch.jobs.finish import check_row_budget
from stsb_batch.jobs.plan import ScorePlan, read_names
from stsb_batch.jobs.watchdog import watchdog
from stsb_batch.pairs import sink, source
from stsb_batch.pairs.quarantine import RowQuarantine, choose_rows, side_path
from stsb_batch.pairs.schema import CONTRACT_VERSION, METADATA_PREFIX, STATUSES, output_schema, status_array
from stsb_batch.pairs.source import Shard, Window
from stsb_batch.report.sketch import Sketch, sketch_rows
from stsb_batch.scoring.pipeline import PairScorer, PreparedPairs, ScoredPairs

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # rows, tokens done since the last call
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


class Behind:
    """Run calls in a thread of its own, in order, at most one behind; an error comes out at the next call or the end."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "stsb-batch writer")
        self._last: Future | None = None

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown()

    def call(self, function: Callable, *args) -> None:
        self.wait()
        self._last = self._pool.submit(function, *args)

    def wait(self) -> None:
        if self._last:
            self._last.result()


def release_memory() -> None:
    """Return what a window needed to the system: Arrow's pool and, with glibc, the C heap keep it otherwise."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


@dataclass
class ShardRun:
    """The work on one shard. `seconds` holds the time in each stage, and the time the engine waited for the others.

    `first_score` is the time from the request to the first scored batch, in seconds.
    """

    plan: ScorePlan
    shard: Shard
    scorer: PairScorer
    progress: Progress

    def __post_init__(self) -> None:
        self.sketch, self.seconds, self.first_score, self._lock = Sketch(), Counter(), None, Lock()

    def run(self, writer, quarantine: RowQuarantine) -> None:
        """Take all windows through the stages."""
        with (
            ahead(self._windows(), self._prepare, PREPARERS.get(self.plan.choice.device, 1)) as windows,
            Behind() as behind,
            contextlib.closing(self.scorer.score_all(self._waited_for(windows))) as results,
        ):
            while True:
                with self._timed("score"):
                    item = next(results, None)
                if item is None:
                    break
                (window, prepared), scored = item
                with self._timed("wait for output"):
                    behind.call(self._finish, writer, quarantine, window, prepared, scored)
                release_memory()
            with self._timed("wait for output"):
                behind.wait()
        self.sketch.first_score = self.first_score
        self.sketch.seconds = self.seconds["score"] + self.seconds["wait for input"] + self.seconds["wait for output"]
        self.sketch.stages = {name: round(seconds, 6) for name, seconds in self.seconds.items()}

    def _advance(self, rows: int, tokens: int) -> None:
        if self.first_score is None:
            self.first_score = time.time() - self.plan.request.asked
        self.progress(rows, tokens)

    @contextlib.contextmanager
    def _timed(self, stage: str, within: str | None = None) -> Iterator[None]:
        """Count the time for a stage; and take it off the stage `within` which it happens."""
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        with self._lock:
            self.seconds[stage] += took
            if within:
                self.seconds[within] -= took

    def _waited_for(self, windows: Iterator) -> Iterator:
        while True:
            with self._timed("wait for input", within="score"):
                item = next(windows, None)
            if item is None:
                return
            yield item, item[1]

    def _windows(self) -> Iterator[Window]:
        windows = source.read_windows(self.shard, read_names(self.plan.request, self.shard.source.schema))
        while True:
            with self._timed("read"):
                window = next(windows, None)
            if window is None:
                return
            yield window

    def _prepare(self, window: Window) -> tuple[Window, PreparedPairs]:
        with self._timed("tokenise"):
            columns = self.plan.request.columns
            left, right = window.rows.column(columns.left), window.rows.column(columns.right)
            return window, self.scorer.prepare(left, right, self._advance)

    def _finish(
        self, writer, quarantine: RowQuarantine, window: Window, prepared: PreparedPairs, scored: ScoredPairs
    ) -> None:
        """Check what the engine gave for a window, count it and write it, while the engine has the next one."""
        with self._timed("check"):
            gaps = self.scorer.parity_gaps(prepared, scored)
            self.sketch = self.sketch.merge(self._sketch(scored, gaps))
            self._judge_bad_rows(scored, window)
        self._write(writer, quarantine, window, scored)

    def _write(self, writer, quarantine: RowQuarantine, window: Window, scored: ScoredPairs) -> None:
        with self._timed("write"):
            rows, columns = window.rows, self.plan.request.columns
            kept = [
                rows.column(i) for i, name in enumerate(rows.schema.names) if columns.keep is None or name in columns.keep
            ]
            score = pa.array(scored.scores, pa.float32(), from_pandas=True)  # NaN, which no scored row has, becomes null
            schema = output_schema(self.shard.source.schema, columns)
            out = pa.RecordBatch.from_arrays([*kept, score, status_array(scored.statuses)], schema=schema)
            if self.plan.request.on_bad_row == "quarantine":
                bad = np.isnan(scored.scores)
                quarantine.add(rows, bad, scored.statuses, window.first_row)
                out = choose_rows(out, ~bad)
            writer.write_batch(out)

    def _sketch(self, scored: ScoredPairs, gaps: np.ndarray) -> Sketch:
        sketch = sketch_rows(scored.scores, scored.statuses, scored.lengths, distinct=scored.distinct, gaps=gaps)
        fallback = 0 if self.scorer.tokenizer.fast else sketch.scored
        return replace(sketch, model_tokens=scored.model_tokens, filling=scored.filling, fallback=fallback)

    def _judge_bad_rows(self, scored: ScoredPairs, window: Window) -> None:
        """Raise `BadDataError` for the first bad row when asked to, and when a shard alone breaks the run's budget."""
        name, bad = shown(self.shard.source.relative), np.flatnonzero(np.isnan(scored.scores))
        if len(bad) and self.plan.request.on_bad_row == "fail":
            row = self.shard.first_row + window.first_row + int(bad[0])
            raise BadDataError(
                f"{name}: row {row:,} (from 0) is {STATUSES[scored.statuses[bad[0]]]}; nothing of the file was committed. "
                "Mend the row, or let such rows pass with --on-bad-row keep or quarantine."
            )
        check_row_budget(self.plan, self.sketch, f"{name}: ")


def score_shard(
    plan: ScorePlan, shard: Shard, open_scorer: Callable[[], PairScorer], progress: Progress | None = None
) -> dict:
    """Score one shard and commit its file; returns rows, bytes, SHA-256 and footer entries of what was committed.

    Raises `BadFileError` when the input is not what was planned, and `BadDataError` when its bad rows end the run.
    """
    began = time.perf_counter()
    schema = output_schema(shard.source.schema, plan.request.columns)
    with (
        watchdog(plan.request.settings.stall_seconds) as alive,
        sink.staged_file(plan.target, shard.output) as staged,
    ):

        def advance(rows: int, tokens: int) -> None:
            alive()
            if progress:
                progress(rows, tokens)

        run = ShardRun(plan, shard, open_scorer(), advance)
        with sink.shard_writer(staged, schema) as writer, RowQuarantine(shard, staged) as quarantine:
            run.run(writer, quarantine)
            writer.add_key_value_metadata(_footer(plan, shard, run.sketch, quarantine.rows))
        if run.sketch.rows != shard.rows:
            raise StsbBatchError(f"bug: {shard.output}: {run.sketch.rows} rows out of {shard.rows}; nothing was committed.")
        source.check_unchanged(shard.source)
        quarantine.commit(side_path(plan.target, shard.output))
        result = sink.commit(staged, plan.target.path(shard.output))
    log.info("%s: %d rows in %.1f s", shown(shard.output), run.sketch.rows, time.perf_counter() - began)
    return result


def _footer(plan: ScorePlan, shard: Shard, sketch: Sketch, quarantined: int) -> dict[str, str]:
    entries = {
        "contract": str(CONTRACT_VERSION),
        "run_id": plan.run_id,
        "run_at": plan.started.isoformat(timespec="seconds"),
        "fingerprint": shard.fingerprint,
        "model": plan.checkpoint.name,
        "model_digest": plan.checkpoint.digest,
        "model_path": str(plan.checkpoint.path),
        "max_length": str(plan.max_length),
        "columns": json.dumps(asdict(plan.request.columns)),
        "rows": str(shard.rows - quarantined),
        "engine": plan.choice.engine,
        "precision": plan.choice.precision,
        "input": json.dumps(shard.source.identity() | {"row_groups": shard.row_groups}),
        "quarantined": str(quarantined),
        "sketch": json.dumps(sketch.to_json(), separators=(",", ":")),
    }
    return {METADATA_PREFIX + key: value for key, value in entries.items()}
