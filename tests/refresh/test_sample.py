"""The sample of real pairs that churn is measured on."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.errors import BadDataError, BadFileError, NothingToReadError
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.sample import read_sample
from tests.builders import make_pairs


def test_sample_is_spread_over_files_with_positions(tmp_path: Path):
    """Rows are taken evenly from all files; file and row lead back to the very texts."""
    frames = {name: make_pairs(rows, seed=rows) for name, rows in (("a", 300), ("b", 700))}
    for name, frame in frames.items():
        frame.write_parquet(tmp_path / f"k={name}/part.parquet", mkdir=True, row_group_size=90)
    sample = read_sample(str(tmp_path), Columns(), rows=100).rows.to_pylist()
    assert [sum(row["file"] == f"k={name}/part.parquet" for row in sample) for name in "ab"] == [30, 70]
    for row in sample:
        source = frames[row["file"][2]]
        assert (source["sentence1"][row["row"]], source["sentence2"][row["row"]]) == (row["left"], row["right"])


def test_sample_may_be_a_scored_file(tmp_path: Path):
    """Last night's output is a sample too: its score column is in nobody's way, its text columns may be dictionaries."""
    frame = make_pairs(20).with_columns(score=1.0, score_status="sentence1")
    table = frame.to_arrow()
    table = table.set_column(1, "sentence1", table["sentence1"].cast(pa.string()).dictionary_encode())
    pq.write_table(table, tmp_path / "scored.parquet")
    assert read_sample(str(tmp_path / "scored.parquet"), Columns()).rows.num_rows == 20


def test_what_is_no_sample(tmp_path: Path):
    """A missing path, no rows, a missing column and a broken file are told apart."""
    with pytest.raises(NothingToReadError):
        read_sample(str(tmp_path / "none.parquet"), Columns())
    make_pairs(3).clear().write_parquet(tmp_path / "empty.parquet")
    with pytest.raises(BadDataError, match=r"has no rows\. Name Parquet with real pairs"):
        read_sample(str(tmp_path / "empty.parquet"), Columns())
    with pytest.raises(BadFileError, match="has no column 'a'"):
        read_sample(str(tmp_path / "empty.parquet"), Columns("a"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadFileError, match="CORRUPT_FILE"):
        read_sample(str(tmp_path / "broken.parquet"), Columns())
