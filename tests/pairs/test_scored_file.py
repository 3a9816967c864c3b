"""A shard's output: rows that are taken out, and those that stay."""

import datetime as dt
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from stsb_batch.errors import BadFileError
from stsb_batch.pairs.column_copy import encode
from stsb_batch.pairs.footer import FileField
from tests.pairs.odd_parquet import TEXTS, second_is_bad, write


def test_rows_are_taken_out_and_types_stay(tmp_path: Path, passed):
    """With quarantine the rest of a row group is written anew under the input's own schema, and so is the side file."""
    path = tmp_path / "in.parquet"
    columns = "'a' || i sentence1, 'b' sentence2, uuid() u, interval (i) day iv, i quarantine_reason"
    duckdb.sql(f"copy (select {columns} from range(5) t(i)) to '{path}'")  # noqa: S608 - of constants
    output = passed(path, second_is_bad)
    before, kept, aside = (duckdb.read_parquet(str(p)) for p in (path, output, output.with_suffix(".quarantine")))
    assert (kept.types[:5], aside.types[:5]) == (before.types, before.types)
    rows = before.fetchall()
    assert [row[:5] for row in kept.fetchall()] == [rows[0], *rows[2:]]
    assert [row[:5] for row in aside.fetchall()] == [rows[1]]
    assert aside.columns[5:] == ["quarantine_file", "quarantine_row", "quarantine_reason_"]


def test_rows_that_cannot_be_written_anew_are_not_taken_out(tmp_path: Path, passed):
    """INT96 beside a row for quarantine is refused by name, with the way out; without such a row it is copied."""
    times = {"t": pa.array([dt.datetime(9999, 1, 1)] * 3, pa.timestamp("us"))}
    path = write(tmp_path / "in.parquet", TEXTS | times, use_deprecated_int96_timestamps=True)
    with pytest.raises(BadFileError, match=r"UNSUPPORTED, bad rows cannot be removed, since column 't'.*--on-bad-row keep"):
        passed(path, second_is_bad)
    (tmp_path / "scored.parquet").unlink()
    (tmp_path / "scored.quarantine").unlink()
    passed(path, lambda rows: np.zeros(rows, bool))


def test_chunks_of_one_row_group_only(tmp_path: Path):
    """A table is written as one row group, whatever its rows."""
    _, footer = encode(pa.table({"x": range(2_000_000)}))
    assert len(footer.items_of(FileField.ROW_GROUPS)) == 1
