"""A shard's output: quarantined rows, and an input that changes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from stsb_batch.errors import BadFileError
from stsb_batch.scoring.verify import verify_output
from stsb_batch.settings import load_settings
from tests.builders import score, write_file


def test_columns_of_one_name_keep_their_cells_in_quarantine(tmp_path: Path, bert: Path):
    """Two columns may share a name; the side file has the cells of both."""
    texts = pa.array(["a", None, "b", "c"])
    table = pa.Table.from_arrays(
        [texts, texts, pa.array([1, 2, 3, 4]), pa.array(["w", "x", "y", "z"])], names=["sentence1", "sentence2", "x", "x"]
    )
    pq.write_table(table, tmp_path / "in.parquet")
    score(tmp_path / "in.parquet", bert, on_bad_row="quarantine")
    side = pq.ParquetFile(tmp_path / "_in.scored.quarantine.pq").read()
    assert [column.to_pylist() for column in side.columns[2:4]] == [[2], ["x"]]


@pytest.mark.parametrize("on_bad_row", ["keep", "quarantine"])
def test_string_views_are_filtered_and_verified(on_bad_row: str, tmp_path: Path, bert: Path):
    """Columns of views keep their type, in the output and in quarantine, and verify reads them."""
    cells = {name: pa.array(["a", None, "b", "c"], pa.string_view()) for name in ("sentence1", "sentence2", "more")}
    pq.write_table(pa.table(cells), tmp_path / "in.parquet")
    outcome = score(tmp_path / "in.parquet", bert, on_bad_row=on_bad_row)
    found = pq.ParquetFile(outcome.target.single).read()
    assert found["more"].to_pylist() == (["a", None, "b", "c"] if on_bad_row == "keep" else ["a", "b", "c"])
    assert str(found.schema.field("more").type) == "string_view"
    checked = verify_output(outcome.target.single, settings=load_settings())
    assert checked.problems == []
    assert checked.rescored == 3


def test_a_changed_input_can_be_scored_again(tmp_path: Path, bert: Path):
    """After INPUT_CHANGED nothing of the file is left that would stand in the way of the next run."""
    path, done = write_file(tmp_path / "in/a.parquet", 20), []

    def change(*_) -> None:
        if list((tmp_path / "out").glob("a-00001*")) and not done:
            done.append(write_file(path, 20, seed=7))

    with pytest.raises(BadFileError, match="INPUT_CHANGED"):
        score(tmp_path / "in", bert, tmp_path / "out", shard_rows=10, on_progress=change, on_bad_file="fail")
    assert score(tmp_path / "in", bert, tmp_path / "out", shard_rows=10).rows == 20
