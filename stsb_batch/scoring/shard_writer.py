"""One shard's output: windows of scores checked, counted and written, then committed. Lives in the writer's thread."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np

from stsb_batch.errors import BadDataError, BadFileError, StsbBatchError, escape_control
from stsb_batch.inference.pipeline import PairScorer, PreparedPairs, ScoredPairs
from stsb_batch.pairs import sink, source
from stsb_batch.pairs.quarantine import RowQuarantine
from stsb_batch.pairs.schema import CONTRACT_VERSION, METADATA_PREFIX, STATUSES
from stsb_batch.pairs.scored_file import ScoredFile
from stsb_batch.pairs.source import BadFile, Shard, Window
from stsb_batch.report.sketch import Sketch, sketch_rows
from stsb_batch.scoring.monitor import RunMonitor
from stsb_batch.scoring.spec import ScoreSpec, ShardResult
from stsb_batch.scoring.threads import Stages


class ShardWriter:
    """Takes a shard's windows in order, then finishes it. An input file that turns out bad becomes the result."""

    def __init__(self, spec: ScoreSpec, shard: Shard, stages: Stages, same_bits: bool | None) -> None:
        self._spec, self._shard, self._stages = spec, shard, stages
        self._sketch, self._same_bits, self._began = Sketch(), same_bits, time.perf_counter()
        self._bad_file: BadFile | None = None
        self._open = contextlib.ExitStack()
        self._output: ScoredFile | None = None

    def add(self, window: Window, prepared: PreparedPairs, scored: ScoredPairs, scorer: PairScorer) -> None:
        """Check, count and write a window of scores; raises `BadDataError` when its bad rows end the run."""
        if self._bad_file:
            return
        with self._closed_on_error():
            output = self._opened()
            with self._stages.timed("check"):
                gaps = scorer.parity_gaps(prepared, scored)
                self._sketch = self._sketch.merge(_sketch(scored, gaps, scorer))
                self._check_bad_rows(scored, window)
            with self._stages.timed("write"):
                output.add(scored.scores, scored.statuses)

    def finish(self, error: BadFileError | None, monitor: RunMonitor) -> ShardResult:
        """Commit the shard, unless its input could not be read to the end (`error`) or is not what was planned."""
        if not self._bad_file:
            with self._closed_on_error():
                if error:
                    raise error
                return self._commit(monitor)
        return ShardResult(self._shard.output, bad_file=self._bad_file)

    def close(self) -> None:
        """Remove what was staged and not committed."""
        self._open.close()

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        """Close everything on an error, and keep that of a bad file as the result."""
        try:
            yield
        except BadFileError as error:
            self._bad_file = BadFile(self._shard.source.relative, error)
            self._open.close()
        except BaseException:
            self._open.__exit__(*sys.exc_info())  # makes a `StorageError` of one of the operating system
            raise

    def _opened(self) -> ScoredFile:
        """Stage the output when the first window comes."""
        if self._output is None:
            spec, shard = self._spec, self._shard
            self._staged = self._open.enter_context(sink.staged_file(spec.target, shard.output))
            self._files = self._open.enter_context(contextlib.ExitStack())
            input_file = self._files.enter_context(source.open_file(shard.source))
            out = self._files.enter_context(self._staged.open("xb"))
            self._quarantine = self._files.enter_context(RowQuarantine(shard, input_file, self._staged))
            side = self._quarantine if spec.on_bad_row == "quarantine" else None
            self._output = ScoredFile(out, input_file, shard, spec.columns, side)
        return self._output

    def _commit(self, monitor: RunMonitor) -> ShardResult:
        spec, shard, sketch = self._spec, self._shard, self._sketch
        output = self._opened()
        seconds = self._stages.seconds
        if monitor.first_score_at is not None:
            sketch.first_score = monitor.first_score_at - spec.requested_at
        sketch.same_bits = self._same_bits
        sketch.seconds = seconds["score"] + seconds["wait for input"] + seconds["wait for output"]
        sketch.stages = {name: round(spent, 6) for name, spent in seconds.items()}
        rows = output.close(_footer(spec, shard, sketch, self._quarantine.rows))
        self._quarantine.close()
        self._files.close()
        if not sketch.rows == rows + self._quarantine.rows == shard.rows:
            raise StsbBatchError(f"bug: {shard.output}: {rows} rows out of {shard.rows}; nothing was committed.")
        source.check_unchanged(shard.source)
        self._quarantine.commit(spec.target.side_path(shard.output))
        committed = sink.commit(self._staged, spec.target.path(shard.output))
        self._open.close()
        monitor.beat()
        return ShardResult(shard.output, committed, seconds=time.perf_counter() - self._began)

    def _check_bad_rows(self, scored: ScoredPairs, window: Window) -> None:
        """Raise `BadDataError` for the first bad row when asked to, and when a shard alone exceeds the run's limit."""
        name, bad = escape_control(self._shard.source.relative), np.flatnonzero(np.isnan(scored.scores))
        if len(bad) and self._spec.on_bad_row == "fail":
            row = self._shard.first_row + window.first_row + int(bad[0])
            raise BadDataError(
                f"{name}: row {row:,} (from 0) is {STATUSES[scored.statuses[bad[0]]]}; nothing of the file was committed. "
                "Correct the row, or let such rows pass with --on-bad-row keep or quarantine."
            )
        self._spec.row_limit.check(self._sketch, f"{name}: ")


def _sketch(scored: ScoredPairs, gaps: np.ndarray, scorer: PairScorer) -> Sketch:
    sketch = sketch_rows(scored.scores, scored.statuses, scored.lengths, distinct=scored.distinct, gaps=gaps)
    return replace(
        sketch,
        model_tokens=scored.model_tokens,
        filling=scored.padding,
        fallback=0 if scorer.tokenizer.fast else sketch.scored,
        text_tokens=scored.text_tokens,
        unknown_tokens=scored.unknown,
    )


def _footer(spec: ScoreSpec, shard: Shard, sketch: Sketch, quarantined: int) -> dict[str, str]:
    entries = {
        "contract": str(CONTRACT_VERSION),
        "run_id": spec.run_id,
        "run_at": spec.started.isoformat(timespec="seconds"),
        "fingerprint": shard.fingerprint,
        "model": spec.checkpoint.name,
        "model_digest": spec.checkpoint.digest,
        "model_path": str(spec.checkpoint.path),
        "max_length": str(spec.max_length),
        "columns": json.dumps(asdict(spec.columns)),
        "rows": str(shard.rows - quarantined),
        "engine": spec.choice.engine,
        "precision": spec.choice.precision,
        "input": json.dumps(shard.source.record() | {"row_groups": shard.row_groups}),
        "quarantined": str(quarantined),
        "sketch": json.dumps(sketch.to_json(), separators=(",", ":")),
    }
    return {METADATA_PREFIX + key: value for key, value in entries.items()}
