"""Quarantined rows: a side Parquet with each row as it was, where it came from and why it has no score.

The files mirror the output's names beside the output (`out.quarantine/`, `in.scored.quarantine.parquet`), where no reader
of the scores globs them. They are ordinary input: mend the texts and score them.
"""

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stsb_batch.pairs import sink
from stsb_batch.pairs.schema import METADATA_PREFIX, STATUSES
from stsb_batch.pairs.source import Shard

MARK = f"{METADATA_PREFIX}quarantine".encode()  # in the footer: only files of ours are ever removed
VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
FILE, ROW, REASON = ADDED = ("quarantine_file", "quarantine_row", "quarantine_reason")


class RowQuarantine:
    """The bad rows of one shard, staged beside its output until they are committed; no file while there are none."""

    def __init__(self, shard: Shard, staged: Path) -> None:
        self.rows = 0
        self._shard = shard
        self._staged = staged.with_suffix(".quarantine")
        self._writer: pq.ParquetWriter | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "RowQuarantine":
        return self

    def __exit__(self, *_) -> None:
        self._open.close()

    def add(self, rows: pa.RecordBatch, bad: np.ndarray, statuses: np.ndarray, first_row: int) -> None:
        """Put rows aside: `bad` (rows,) bool, `statuses` (rows,) codes, `first_row` the window's position in the shard."""
        positions = np.flatnonzero(bad)
        if not len(positions):
            return
        taken = choose_rows(rows, bad)
        places = [place for place, name in enumerate(taken.schema.names) if name not in ADDED]  # two may have one name
        reasons = pc.take(pa.array(STATUSES), pa.array(statuses[positions], pa.int8()))
        table = pa.table(
            [
                *[taken.column(place) for place in places],
                pa.array([str(self._shard.source.relative)] * len(positions), pa.string()),
                pa.array(positions + first_row + self._shard.first_row, pa.int64()),
                reasons,
            ],
            names=[*[taken.schema.names[place] for place in places], *ADDED],
        ).replace_schema_metadata({MARK: b"1"})
        if self._writer is None:
            self._writer = self._open.enter_context(sink.shard_writer(self._staged, table.schema))
        self._writer.write_table(table)
        self.rows += len(positions)

    def commit(self, final: Path) -> None:
        """Move the side file into place, or remove that of an earlier run when no row is bad any more."""
        if self.rows:
            sink.commit(self._staged, final)
        else:
            withdraw(final)


def choose_rows(rows: pa.RecordBatch, chosen: np.ndarray) -> pa.RecordBatch:
    """Return the rows where `chosen` (rows,) bool is true, in the same types."""
    if chosen.all():
        return rows
    plain = [VIEWS.get(field.type, field.type) for field in rows.schema]  # pyarrow 26 filters no views
    columns = [column.cast(kind).filter(pa.array(chosen)) for column, kind in zip(rows.columns, plain, strict=True)]
    columns = [column.cast(field.type) for column, field in zip(columns, rows.schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def side_path(target: sink.Target, output: Path) -> Path:
    """Return where a shard's quarantined rows go."""
    return target.side if target.single else target.side / output


def withdraw(side: Path) -> None:
    """Remove a side file, if there is one and it is ours."""
    if "quarantine" in sink.footer_entries(side):
        side.unlink()


def quarantined_rows(target: sink.Target, shard: Shard) -> np.ndarray:
    """Return the positions, within the shard, of the rows that are not in its output."""
    path = side_path(target, shard.output)
    if sink.footer_entries(target.path(shard.output)).get("quarantined") == "0" or not path.exists():
        return np.empty(0, np.int64)
    return pq.ParquetFile(path).read([ROW])[ROW].to_numpy() - shard.first_row


def sweep_side_files(target: sink.Target, shards: list[Shard]) -> None:
    """Remove quarantine files of ours that belong to no shard of this plan any more."""
    if target.single:
        return
    planned = {side_path(target, shard.output) for shard in shards}
    for path in target.side.rglob("*.parquet"):
        if path not in planned:
            withdraw(path)
