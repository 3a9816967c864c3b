"""What scoring a shard needs to know beside the shard: small values that pickle, so that any process can do it."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stsb_batch.errors import BadDataError
from stsb_batch.inference.engines import EngineChoice
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.inference.scorer import open_scorer
from stsb_batch.models.checkpoint import Checkpoint
from stsb_batch.pairs.layout import Target
from stsb_batch.pairs.schema import Columns
from stsb_batch.pairs.sink import CommittedFile
from stsb_batch.pairs.source import BadFile
from stsb_batch.report.sketch import Sketch


@dataclass(frozen=True)
class RowLimit:
    """How many of a run's `rows` may have no score (`allowed`), and the options that say so."""

    rows: int
    allowed: int
    option: str

    def check(self, sketch: Sketch, subject: str = "") -> None:
        """Raise `BadDataError` when more rows than allowed have no score."""
        bad = sketch.rows - sketch.scored
        if bad > self.allowed:
            raise BadDataError(
                f"{subject}{bad:,} rows have no score ({describe_unscored(sketch.statuses)}), {self.allowed:,} of "
                f"{self.rows:,} may have none ({self.option}). Correct the rows, or raise the limit."
            )


@dataclass(frozen=True)
class ScoreSpec:
    """How the shards of a run are scored and where they go. `requested_at` is Unix time."""

    run_id: str
    started: dt.datetime
    requested_at: float
    target: Target
    checkpoint: Checkpoint
    choice: EngineChoice
    columns: Columns
    max_length: int
    max_tokens: int | None
    fixed_shapes: bool
    parity: bool
    on_bad_row: str
    row_limit: RowLimit
    cache: Path
    stall_seconds: float

    def open_scorer(self) -> PairScorer:
        """Load the model; takes seconds."""
        return open_scorer(
            self.checkpoint,
            self.choice,
            max_length=self.max_length,
            max_tokens=self.max_tokens,
            fixed_shapes=self.fixed_shapes,
            cache=self.cache,
            parity=self.parity,
        )


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard, by the name of its `output`: a committed file, or an input file that turned out bad."""

    output: Path
    committed: CommittedFile | None = None
    bad_file: BadFile | None = None
    seconds: float = 0.0


def describe_unscored(rows_by_status: Mapping[str, float]) -> str:
    """Write the rows without a score by status."""
    return ", ".join(f"{status} {count:,.0f}" for status, count in sorted(rows_by_status.items()) if status[:2] != "OK")
