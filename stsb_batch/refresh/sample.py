"""Read a sample of real pairs from Parquet: evenly spaced rows, and the texts in them."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from stsb_batch.errors import BadDataError, BadFileError, escape_control
from stsb_batch.pairs.listing import find_files
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import BLANK, Columns, check_columns
from stsb_batch.pairs.source import Shard, SourceFile, inspect_file, probe_rows, read_windows

SAMPLE_ROWS = 4_000  # the standard error of a share is then at most 0.8 %
TEXT_ROWS = 20_000  # up to 40,000 texts


@dataclass(frozen=True)
class Sample:
    """Sampled rows: a table with `file`, `row` (position in the file), `left` and `right`; `source` is the input's name."""

    source: str
    rows: pa.Table


def read_sample(location: str, columns: Columns, *, rows: int = SAMPLE_ROWS, spaced: bool = True) -> Sample:
    """Read `rows` rows of a Parquet file, folder or glob: evenly spaced, or the first ones unless `spaced`.

    Files are opened in the sandbox first. Raises `NothingToReadError` where there is no file, `BadFileError` for one that
    cannot be read or lacks a text column, and `BadDataError` where there are no rows.
    """
    with Sandbox() as sandbox:
        sources = [_open(path, relative, columns, sandbox) for path, relative in find_files(location).files]
    total = sum(source.rows for source in sources)
    if not total:
        raise BadDataError(f"{escape_control(location)}: has no rows. Name Parquet with real pairs.")
    wanted = np.arange(min(rows, total))
    if spaced:
        wanted = np.unique(np.linspace(0, total - 1, len(wanted)).astype(np.int64))
    tables, first = [], 0
    for source in sources:
        here = wanted[(wanted >= first) & (wanted < first + source.rows)] - first
        tables += _take(source, here, columns)
        first += source.rows
    return Sample(Path(location).name, pa.concat_tables(tables))


def read_texts(location: str, columns: Columns) -> tuple[str, ...]:
    """Return the distinct texts of evenly spaced rows of a Parquet file, folder or glob, sorted.

    Texts that are blank or not UTF-8 are left out. Raises as `read_sample` does.
    """
    sample = read_sample(location, columns, rows=TEXT_ROWS)
    texts: set[str] = set()
    for side in ("left", "right"):
        for cell in sample.rows[side].cast(pa.binary()).unique().to_pylist():
            with contextlib.suppress(UnicodeDecodeError):
                texts.add((cell or b"").decode())
    return tuple(sorted(text for text in texts if text.strip(BLANK)))


def _open(path: Path, relative: Path, columns: Columns, sandbox: Sandbox) -> SourceFile:
    sandbox.probe_footer(path, escape_control(relative), [columns.left, columns.right])
    source = inspect_file(path, relative)
    problems = check_columns(source.schema, Columns(columns.left, columns.right))
    if problems:
        raise BadFileError("SCHEMA", f"{escape_control(relative)}: {escape_control('; '.join(problems))}.")
    return probe_rows(source, [columns.left, columns.right], sandbox)


def _take(source: SourceFile, rows: np.ndarray, columns: Columns) -> list[pa.Table]:
    """Return the two text columns of the given rows (positions in the file, ascending)."""
    shard = Shard(source, tuple(range(len(source.row_groups))), Path(), "")
    taken = []
    for window in read_windows(shard, [columns.left, columns.right]) if len(rows) else ():
        if window.first_row > rows[-1]:
            break
        here = rows[(rows >= window.first_row) & (rows < window.first_row + window.rows.num_rows)]
        sides = [window.rows.column(name).take(pa.array(here - window.first_row)) for name in (columns.left, columns.right)]
        names = pa.array([escape_control(source.relative)] * len(here), pa.string())
        taken.append(
            pa.table({"file": names, "row": here, "left": sides[0].cast(pa.string()), "right": sides[1].cast(pa.string())})
        )
    return taken
