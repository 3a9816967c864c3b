"""One shard from scored windows to committed output: checked and written in a thread of its own."""

import contextlib
import ctypes
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa

from stsb_batch.errors import BadDataError, StsbBatchError, escape_control
from stsb_batch.inference.pipeline import Progress, ScoredPairs
from stsb_batch.pairs import sink, source
from stsb_batch.pairs.quarantine import RowQuarantine
from stsb_batch.pairs.schema import CONTRACT_VERSION, METADATA_PREFIX, STATUSES
from stsb_batch.pairs.scored_file import ScoredFile
from stsb_batch.pairs.source import Shard, Window
from stsb_batch.report.sketch import Sketch, sketch_rows
from stsb_batch.scoring.finish import check_row_budget
from stsb_batch.scoring.plan import ScorePlan
from stsb_batch.scoring.stream import Line, Part
from stsb_batch.scoring.watchdog import watchdog

log = logging.getLogger(__name__)


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


class ShardRun:
    """The work on one shard: what the line has scored is checked, counted and written, while the engine goes on."""

    def __init__(self, line: Line, shard: Shard, progress: Progress) -> None:
        self._line, self._plan, self._shard, self._progress = line, line.plan, shard, progress
        self._scorer, self.sketch, self._first_score = line.open_scorer(), Sketch(), None
        self._same_bits = line.same_bits()

    def run(self, output: ScoredFile) -> None:
        """Take all windows through the stages."""
        self._stages = self._line.begin(self._shard)
        with Behind() as behind, contextlib.closing(self._line.take(self._shard, self._advance)) as parts:
            for part in parts:
                with self._stages.timed("wait for output"):
                    behind.call(self._finish, output, part)
                release_memory()
            with self._stages.timed("wait for output"):
                behind.wait()
        seconds = self._stages.seconds
        self.sketch.first_score, self.sketch.same_bits = self._first_score, self._same_bits
        self.sketch.seconds = seconds["score"] + seconds["wait for input"] + seconds["wait for output"]
        self.sketch.stages = {name: round(spent, 6) for name, spent in seconds.items()}

    def _advance(self, rows: int, tokens: int) -> None:
        if self._first_score is None:
            self._first_score = time.time() - self._plan.request.asked
        self._progress(rows, tokens)

    def _finish(self, output: ScoredFile, part: Part) -> None:
        """Check what the engine gave for a window, count it and write it."""
        with self._stages.timed("check"):
            gaps = self._scorer.parity_gaps(part.prepared, part.scored)
            self.sketch = self.sketch.merge(self._sketch(part.scored, gaps))
            self._judge_bad_rows(part.scored, part.window)
        with self._stages.timed("write"):
            output.add(part.scored.scores, part.scored.statuses)

    def _sketch(self, scored: ScoredPairs, gaps: np.ndarray) -> Sketch:
        sketch = sketch_rows(scored.scores, scored.statuses, scored.lengths, distinct=scored.distinct, gaps=gaps)
        fallback = 0 if self._scorer.tokenizer.fast else sketch.scored
        return replace(
            sketch,
            model_tokens=scored.model_tokens,
            filling=scored.filling,
            fallback=fallback,
            text_tokens=scored.text_tokens,
            unknown_tokens=scored.unknown,
        )

    def _judge_bad_rows(self, scored: ScoredPairs, window: Window) -> None:
        """Raise `BadDataError` for the first bad row when asked to, and when a shard alone breaks the run's budget."""
        name, bad = escape_control(self._shard.source.relative), np.flatnonzero(np.isnan(scored.scores))
        if len(bad) and self._plan.request.on_bad_row == "fail":
            row = self._shard.first_row + window.first_row + int(bad[0])
            raise BadDataError(
                f"{name}: row {row:,} (from 0) is {STATUSES[scored.statuses[bad[0]]]}; nothing of the file was committed. "
                "Mend the row, or let such rows pass with --on-bad-row keep or quarantine."
            )
        check_row_budget(self._plan, self.sketch, f"{name}: ")


def score_shard(line: Line, shard: Shard, progress: Progress | None = None) -> dict:
    """Score one shard and commit its file; returns rows, bytes, SHA-256 and footer entries of what was committed.

    Raises `BadFileError` when the input is not what was planned, and `BadDataError` when its bad rows end the run.
    """
    began, plan = time.perf_counter(), line.plan
    with (
        watchdog(plan.request.settings.stall_seconds) as alive,
        sink.staged_file(plan.target, shard.output) as staged,
    ):

        def advance(rows: int, tokens: int) -> None:
            alive()
            if progress:
                progress(rows, tokens)

        run = ShardRun(line, shard, advance)
        with (
            source.open_file(shard.source) as input_file,
            staged.open("xb") as out,
            RowQuarantine(shard, input_file, staged) as quarantine,
        ):
            side = quarantine if plan.request.on_bad_row == "quarantine" else None
            output = ScoredFile(out, input_file, shard, plan.request.columns, side)
            run.run(output)
            rows = output.close(_footer(plan, shard, run.sketch, quarantine.rows))
            quarantine.close()
        if not run.sketch.rows == rows + quarantine.rows == shard.rows:
            raise StsbBatchError(f"bug: {shard.output}: {rows} rows out of {shard.rows}; nothing was committed.")
        source.check_unchanged(shard.source)
        quarantine.commit(plan.target.side_path(shard.output))
        result = sink.commit(staged, plan.target.path(shard.output))
    log.info("%s: %d rows in %.1f s", escape_control(shard.output), run.sketch.rows, time.perf_counter() - began)
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
        "input": json.dumps(shard.source.record() | {"row_groups": shard.row_groups}),
        "quarantined": str(quarantined),
        "sketch": json.dumps(sketch.to_json(), separators=(",", ":")),
    }
    return {METADATA_PREFIX + key: value for key, value in entries.items()}
