"""Quarantined rows: Parquet with each row as it was, where it came from and why it has no score.

The files mirror the output's names in its folder `_quarantine/` (`_in.scored.quarantine.pq` for a single file), where no
reader takes them for scores. They can be input again: correct the texts and score them.
"""

import contextlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stsb_batch.pairs import sink
from stsb_batch.pairs.column_copy import ColumnCopy
from stsb_batch.pairs.schema import METADATA_PREFIX, STATUSES
from stsb_batch.pairs.source import Shard

MARK = f"{METADATA_PREFIX}quarantine"  # footer key of our own files; no other file is ever removed
VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
ADDED = {"quarantine_file": pa.string(), "quarantine_row": pa.int64(), "quarantine_reason": pa.string()}
ROW_COLUMN = -2  # index of the column `quarantine_row`


class RowQuarantine:
    """The bad rows of one shard, staged until they are committed. Without bad rows no file is written."""

    def __init__(self, shard: Shard, source: BinaryIO, staged: Path) -> None:
        self.rows = 0
        self._shard, self._source = shard, source
        self._staged = staged.with_suffix(".quarantine")
        self._copy: ColumnCopy | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "RowQuarantine":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, rows: pa.RecordBatch, bad: np.ndarray, statuses: np.ndarray, first_row: int) -> None:
        """Add the rows where `bad` (rows,) bool is true, with their `statuses` (rows,) codes.

        `first_row` is the window's position in the shard.
        """
        positions = np.flatnonzero(bad)
        if not len(positions):
            return
        schema = added_schema(rows.schema.names)
        if self._copy is None:
            out = self._open.enter_context(self._staged.open("xb"))
            self._copy = ColumnCopy(out, self._source, list(range(rows.num_columns)), schema)
        columns = [
            pa.array([str(self._shard.source.relative)] * len(positions), pa.string()),
            pa.array(positions + first_row + self._shard.first_row, pa.int64()),
            pc.take(pa.array(STATUSES), pa.array(statuses[positions], pa.int8())),
        ]
        self._copy.write_rows(pa.Table.from_batches([choose_rows(rows, bad)]), pa.table(columns, schema=schema))
        self.rows += len(positions)

    def close(self) -> None:
        """Write the footer of the staged file."""
        if self._copy:
            self._copy.close({MARK: "1"})

    def commit(self, final: Path) -> None:
        """Move the staged file to `final`; without bad rows, remove the file that an earlier run left there."""
        if self.rows:
            sink.commit(self._staged, final)
        else:
            withdraw(final)


def added_schema(names: list[str]) -> pa.Schema:
    """Return the fields that a quarantine file adds, under names that differ from `names` even where case is ignored."""
    taken, fields = {name.lower() for name in names}, []
    for name, kind in ADDED.items():
        while name.lower() in taken:
            name += "_"  # noqa: PLW2901
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def choose_rows(rows: pa.RecordBatch, chosen: np.ndarray) -> pa.RecordBatch:
    """Return the rows where `chosen` (rows,) bool is true, in the same types."""
    if chosen.all():
        return rows
    plain = [VIEWS.get(field.type, field.type) for field in rows.schema]  # pyarrow 26 filters no views
    columns = [column.cast(kind).filter(pa.array(chosen)) for column, kind in zip(rows.columns, plain, strict=True)]
    columns = [column.cast(field.type) for column, field in zip(columns, rows.schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def withdraw(side: Path) -> None:
    """Remove a quarantine file if it exists and is our own."""
    if "quarantine" in sink.footer_entries(side):
        side.unlink()


def quarantined_rows(target: sink.Target, shard: Shard) -> np.ndarray:
    """Return the positions in the shard (rows,) of the rows that are in quarantine instead of its output."""
    path = target.side_path(shard.output)
    if sink.footer_entries(target.path(shard.output)).get("quarantined") == "0" or not path.exists():
        return np.empty(0, np.int64)
    with pq.ParquetFile(path) as file:
        return file.read([file.schema_arrow.names[ROW_COLUMN]]).column(0).to_numpy() - shard.first_row


def sweep_side_files(target: sink.Target, kept: set[Path]) -> None:
    """Remove our own quarantine files that belong to no shard of this plan; `kept` are those that do."""
    for path in target.side_files:
        if path not in kept:
            withdraw(path)
