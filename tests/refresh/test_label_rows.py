"""The rows of a label file that can be learned from."""

from pathlib import Path

import polars as pl
import pytest

from stsb_batch.errors import BadDataError, BadFileError
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.label_rows import decoded, read_rows, usable_rows
from tests.builders import make_pairs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    make_pairs(200).with_columns(split=pl.lit("train"), field=pl.col("id") % 3).write_parquet(tmp_path / "l.parquet")
    return tmp_path / "l.parquet"


def test_only_what_is_needed_is_read(file: Path):
    """Texts come as bytes, the label as float32, the slice as text; `split` only where it is wanted."""
    with Sandbox() as sandbox:
        rows = read_rows(file, Columns(), "field", sandbox, split=True)
        assert read_rows(file, Columns(), None, sandbox, split=False).columns == ["left", "right", "label", "slice"]
    kinds = {"left": pl.Binary, "right": pl.Binary, "label": pl.Float32, "slice": pl.String, "split": pl.Binary}
    assert rows.schema == kinds
    assert rows["slice"].unique().sort().to_list() == ["0", "1", "2"]


def test_missing_slice_is_named(file: Path):
    """A slice column that is not there is refused with those that are."""
    with Sandbox() as sandbox, pytest.raises(BadFileError, match=r"has no column 'kind' .*--slice"):
        read_rows(file, Columns(), "kind", sandbox, split=True)


def test_few_unusable_rows_are_left_out_and_many_refused(file: Path, caplog: pytest.LogCaptureFixture):
    """One bad row of 200 is left out, counted and logged; three are too many, and the first is named."""
    with Sandbox() as sandbox:
        rows = read_rows(file, Columns(), None, sandbox, split=False)
    bad = rows.with_columns(label=pl.when(pl.int_range(pl.len()) == 7).then(9.0).otherwise("label"))
    kept, left_out = usable_rows(bad, "l.parquet", Columns())
    assert (kept.height, list(left_out.values())) == (199, [1])
    assert "l.parquet: left out 1 labels outside 0-5, first in row 7" in caplog.text
    worse = rows.with_columns(left=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit(b" ")).otherwise("left"))
    with pytest.raises(BadDataError, match="3 blank texts, first in row 0"):
        usable_rows(worse, "l.parquet", Columns())


def test_bytes_that_are_no_text_are_null():
    """A cell that is not UTF-8 is null, the others are text."""
    assert decoded(pl.Series([b"a", b"\xff", None], dtype=pl.Binary)).to_list() == ["a", None, None]
