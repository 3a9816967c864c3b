"""Churn before promotion: champion and challenger score a sample of the warehouse's real pairs."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from stsb_batch.errors import BadDataError, BadFileError, shown
from stsb_batch.jobs.scorer import score_columns
from stsb_batch.models.checkpoint import Checkpoint
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import Columns, check_columns
from stsb_batch.pairs.source import Shard, SourceFile, find_files, inspect_file, probe_rows, read_windows
from stsb_batch.refresh.churn import Churn, measure_churn
from stsb_batch.settings import Settings

SAMPLE_ROWS = 4_000  # the standard error of a share is then at most 0.8 %


@dataclass(frozen=True)
class Sample:
    """Rows of the warehouse: a table `file`, `row` (position in the file), `left`, `right`; `source` names where from."""

    source: str
    rows: pa.Table


@dataclass(frozen=True)
class SampleChurn:
    """Churn on a sample, and the sample, for those who ask to see the texts of the worst movers."""

    churn: Churn
    sample: Sample

    def movers(self) -> list[dict]:
        """Return the worst movers by file, row and scores."""
        places = self.sample.rows.select(["file", "row"])
        return [
            {**places.slice(mover.position, 1).to_pylist()[0], "champion": mover.champion, "challenger": mover.challenger}
            for mover in self.churn.movers
        ]

    def texts(self, position: int) -> tuple[str, str]:
        """Return the two texts at a position of the sample, fit to be shown."""
        cells = (self.sample.rows[side][position].cast(pa.binary()).as_py() for side in ("left", "right"))
        left, right = (shown((cell or b"").decode(errors="replace")) for cell in cells)
        return left, right

    def to_card(self) -> dict:
        """Return what the model's card keeps: figures and positions, no texts."""
        return asdict(self.churn) | {"sample": self.sample.source, "movers": self.movers()}


def read_sample(location: str, columns: Columns, *, rows: int = SAMPLE_ROWS) -> Sample:
    """Take evenly spaced rows of a Parquet file, folder or glob; files are opened in the sandbox first.

    Raises `BadFileError` for a file that cannot be read or lacks a text column, `BadDataError` where there are no rows.
    """
    with Sandbox() as sandbox:
        sources = [_open(path, relative, columns, sandbox) for path, relative in find_files(location).files]
    total = sum(source.rows for source in sources)
    if not total:
        raise BadDataError(f"{shown(location)}: has no rows to measure churn on. Name last night's pairs.")
    wanted = np.unique(np.linspace(0, total - 1, min(rows, total)).astype(np.int64))
    tables, first = [], 0
    for source in sources:
        here = wanted[(wanted >= first) & (wanted < first + source.rows)] - first
        tables += _take(source, here, columns)
        first += source.rows
    return Sample(Path(location).name, pa.concat_tables(tables))


def _open(path: Path, relative: Path, columns: Columns, sandbox: Sandbox) -> SourceFile:
    sandbox.probe_footer(path, shown(relative))
    source = inspect_file(path, relative)
    problems = check_columns(source.schema, Columns(columns.left, columns.right))
    if problems:
        raise BadFileError("SCHEMA", "\n".join(f"{shown(relative)}: {problem}." for problem in problems))
    return probe_rows(source, [columns.left, columns.right], sandbox)


def _take(source: SourceFile, rows: np.ndarray, columns: Columns) -> list[pa.Table]:
    """Read the two text columns and keep the given rows (positions in the file)."""
    whole = Shard(source, tuple(range(len(source.row_groups))), Path(), "")
    taken = []
    for window in read_windows(whole, [columns.left, columns.right]) if len(rows) else ():
        here = rows[(rows >= window.first_row) & (rows < window.first_row + window.rows.num_rows)]
        sides = [window.rows.column(name).take(pa.array(here - window.first_row)) for name in (columns.left, columns.right)]
        names = pa.array([shown(source.relative)] * len(here), pa.string())
        taken.append(
            pa.table({"file": names, "row": here, "left": sides[0].cast(pa.string()), "right": sides[1].cast(pa.string())})
        )
    return taken


def churn_on(
    sample: Sample, champion: Checkpoint, challenger: Checkpoint, thresholds: tuple[float, ...], settings: Settings
) -> SampleChurn:
    """Score a sample with both models and compare."""
    left, right = (sample.rows[side].combine_chunks() for side in ("left", "right"))
    old, new = (score_columns(checkpoint, left, right, settings=settings) for checkpoint in (champion, challenger))
    return SampleChurn(measure_churn(old, new, thresholds), sample)
