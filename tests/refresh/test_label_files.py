"""Label files as other people write them: names of splits, layouts of hubs, columns that nobody needs."""

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.errors import BadDataError, BadFileError
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.label_files import read_labelled
from stsb_batch.refresh.labels import load_labels
from tests.builders import make_pairs

HASHES = ("1f0a9c1b2d3e4f56", "0A1B2C3D4E5F6A7B", "7a6b5c4d3e2f1a0b", "00000000deadbeef")


def write_parts(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        make_pairs(30, seed).write_parquet(folder / f"{name}.parquet", mkdir=True)


def splits_of(location: Path) -> dict[str, int]:
    return {name: frame.height for name, frame in read_labelled(str(location), Columns()).frames.items()}


@pytest.mark.parametrize(
    "names", [("TRAIN", "DEV", "TEST"), ("Training", "Validation", " Test "), ("train", "eval", "testing")]
)
def test_names_of_splits_are_known_in_any_case(names: tuple[str, ...], tmp_path: Path):
    """Kind: a split by another usual name or in another case. It is train, val or test, in a column and as a file."""
    rows = zip(names, (make_pairs(30, seed) for seed in range(3)), strict=True)
    pl.concat([frame.with_columns(split=pl.lit(name)) for name, frame in rows]).write_parquet(tmp_path / "l.parquet")
    assert list(splits_of(tmp_path / "l.parquet").items()) == [("train", 30), ("val", 30), ("test", 30)]
    write_parts(tmp_path / "folder", *(name.strip() for name in names))
    assert list(splits_of(tmp_path / "folder").items()) == [("train", 30), ("val", 30), ("test", 30)]


def test_splits_come_in_one_order(tmp_path: Path):
    """Kind: an order that differs from run to run. Train, val and test come first, others by name, whatever the rows."""
    cells = np.random.default_rng(0).permutation(["z", "test", "b", "dev", "A", "train"] * 10)
    make_pairs(60).with_columns(split=pl.Series(cells)).write_parquet(tmp_path / "l.parquet")
    assert list(splits_of(tmp_path / "l.parquet")) == ["train", "val", "test", "a", "b", "z"]


@pytest.mark.parametrize("blank", ["", " ", None])
def test_a_blank_split_is_none(blank: str | None, tmp_path: Path):
    """Kind: rows that no split is said of. A blank name counts as a missing one."""
    cells = ["train"] * 40 + [blank] * 10
    make_pairs(50).with_columns(split=pl.Series(cells, dtype=pl.String)).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(BadDataError, match="10 rows have no split, first in row 40"):
        read_labelled(str(tmp_path / "l.parquet"), Columns())


@pytest.mark.parametrize("below", ["", "data", "Data"])
def test_hub_names_with_hashes(below: str, tmp_path: Path):
    """Kind: names and layout that hubs give. Each shard may have a hash of its own, and all may lie in `data/`."""
    names = ["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001"]
    write_parts(tmp_path / below, *(f"{name}-{digest}" for name, digest in zip(names, HASHES, strict=True)))
    assert list(splits_of(tmp_path).items()) == [("train", 60), ("val", 30), ("test", 30)]
    train = load_labels(str(tmp_path), Columns()).train
    assert train["left"].to_list() == [*make_pairs(30, 0)["sentence1"], *make_pairs(30, 1)["sentence1"]]


def test_folders_of_splits(tmp_path: Path):
    """Kind: names and layout that hubs give. A converted data set has a folder for each split."""
    write_parts(tmp_path, "train/0000", "train/0001", "validation/0000", "test/0000")
    assert list(splits_of(tmp_path).items()) == [("train", 60), ("val", 30), ("test", 30)]


def test_a_hash_without_a_number(tmp_path: Path):
    """Kind: names that hubs give. A hash alone is one only behind a split's name; two of a split are never taken as one."""
    write_parts(tmp_path, "train-1f0a9c1b", "dev-77aa", "extra-beef")
    assert list(splits_of(tmp_path)) == ["train", "val", "extra-beef"]
    write_parts(tmp_path, "train-2023")
    with pytest.raises(BadDataError, match=r"train-2023\.parquet is the same split as another file \(train\)"):
        splits_of(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("train-00000-of-00003-aa11", "train-00002-of-00003-bb22"),
            r"train-00001-of-00003-\*\.parquet is missing, one of 3",
        ),
        (("train-00001-of-00002", "dev"), r"train-00000-of-00002\.parquet is missing, one of 2"),
        (("train-00000-of-00001-aa11", "train-00000-of-00001-bb22"), "is the same split as another file"),
        (("train-00000-of-00002-aa11", "train-00001-of-00003-bb22"), "is the same split as another file"),
        (("train-00000-of-00001", "TRAIN"), "is the same split as another file"),
    ],
)
def test_sets_of_files_that_are_not_whole(names: tuple[str, ...], message: str, tmp_path: Path):
    """Kind: names that hubs give. A shard that is missing, or there twice, is named, with or without hashes."""
    write_parts(tmp_path, *names)
    with pytest.raises(BadDataError, match=message):
        splits_of(tmp_path)


def test_parquet_by_another_ending_is_no_missing_split(tmp_path: Path):
    """Kind: files passed over in silence. `train.PARQUET` and `dev.pq` are splits, text beside them is not."""
    write_parts(tmp_path, "train", "validation")
    (tmp_path / "train.parquet").rename(tmp_path / "train.PARQUET")
    (tmp_path / "validation.parquet").rename(tmp_path / "validation.pq")
    (tmp_path / "README.md").write_text("no rows")
    assert list(splits_of(tmp_path).items()) == [("train", 30), ("val", 30)]


def unused(kind: str) -> pa.Array:
    """Make 50 cells of a type that a label file may have beside what is needed."""
    moment = pa.array([dt.datetime(2024, 1, 1)] * 50, pa.timestamp("us", "UTC"))
    return {
        "fixed offset": moment.cast(pa.timestamp("us", "+05:30")),
        "unknown zone": moment.cast(pa.timestamp("us", "Mars/Base")),
        "list": pa.array([[1]] * 50),
        "map": pa.array([[("a", 1)]] * 50, pa.map_(pa.string(), pa.int64())),
        "decimal256": pa.array([1] * 50, pa.decimal256(60, 2)),
        "bytes": pa.array([b"\xff\x00"] * 50),
        "struct": pa.array([{"a": 1}] * 50),
    }[kind]


@pytest.mark.parametrize("kind", ["fixed offset", "unknown zone", "list", "map", "decimal256", "bytes", "struct"])
def test_unused_columns_may_be_anything(kind: str, tmp_path: Path):
    """Kind: a column that nobody reads. Its type is ignored, though a library may not know it."""
    table = make_pairs(50).to_arrow().append_column("beside", unused(kind))
    pq.write_table(table, tmp_path / "l.parquet")
    assert splits_of(tmp_path / "l.parquet") == {"": 50}


def damage(path: Path, column: str) -> None:
    """Overwrite the pages of a column."""
    group = pq.read_metadata(path).row_group(0)
    chunk = next(group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == column)
    content = bytearray(path.read_bytes())
    begin = chunk.dictionary_page_offset or chunk.data_page_offset
    content[begin : begin + chunk.total_compressed_size] = b"\xa5" * chunk.total_compressed_size
    path.write_bytes(content)


def test_damage_counts_where_it_is_read(tmp_path: Path):
    """Kind: damaged pages. In an unused column they are ignored, in a needed one the file is refused in one line."""
    make_pairs(50).write_parquet(tmp_path / "l.parquet")
    damage(tmp_path / "l.parquet", "id")
    assert splits_of(tmp_path / "l.parquet") == {"": 50}
    damage(tmp_path / "l.parquet", "label")
    with pytest.raises(BadFileError, match=r"^l\.parquet: \w+, .*$") as told:
        splits_of(tmp_path / "l.parquet")
    assert told.value.exit_code == 65


@pytest.mark.parametrize(("column", "refused"), [("beside", False), ("sentence1", True)])
def test_size_gates_hold_for_what_is_read(column: str, refused: bool, tmp_path: Path):
    """Kind: a column that unpacks to a thousand times the file. It is not decoded where unused, and refused where needed."""
    pairs = make_pairs(300).to_arrow()
    heavy = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array(["x" * 2_000_000]))
    table = pairs.append_column("beside", heavy) if column == "beside" else pairs.set_column(1, column, heavy)
    pq.write_table(table, tmp_path / "l.parquet", compression="zstd")
    if refused:
        with pytest.raises(BadFileError, match="RESOURCE_LIMIT"):
            splits_of(tmp_path / "l.parquet")
    else:
        assert splits_of(tmp_path / "l.parquet") == {"": 300}


def test_text_that_is_not_utf8_is_an_unusable_row(tmp_path: Path):
    """Kind: a cell that is no text. It is left out and counted like any other that cannot be used."""
    texts = [b"a \xff b", *[text.encode() for text in make_pairs(200)["sentence1"][1:]]]
    column = pa.array(texts, pa.binary()).view(pa.string())
    pq.write_table(make_pairs(200).to_arrow().set_column(1, "sentence1", column), tmp_path / "l.parquet")
    read = read_labelled(str(tmp_path / "l.parquet"), Columns())
    assert (read.frames[""].height, read.left_out) == (199, {"texts that are not UTF-8": 1})


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.large_string(), pa.string_view()])
def test_any_layout_of_text_is_text(kind: pa.DataType, tmp_path: Path):
    """Kind: text in another layout. The pairs are the same."""
    pairs = make_pairs(50).to_arrow()
    pq.write_table(pairs.set_column(1, "sentence1", pairs["sentence1"].cast(kind)), tmp_path / "l.parquet")
    frame = read_labelled(str(tmp_path / "l.parquet"), Columns()).frames[""]
    assert frame["left"].to_list() == make_pairs(50)["sentence1"].to_list()


def test_slices_of_a_column_that_text_cannot_be_made_of(tmp_path: Path):
    """Kind: a needed column of an odd type. It is refused in a line that names it, never with a crash."""
    for kind in ("fixed offset", "unknown zone", "bytes"):
        pq.write_table(make_pairs(50).to_arrow().append_column("s", unused(kind)), tmp_path / f"{kind}.parquet")
    assert read_labelled(str(tmp_path / "fixed offset.parquet"), Columns(), slice_column="s").frames[""].height == 50
    with pytest.raises(BadFileError, match=r"column 's' is .*Mars/Base.*, which cannot be read as the name of a slice"):
        read_labelled(str(tmp_path / "unknown zone.parquet"), Columns(), slice_column="s")
    with pytest.raises(BadFileError, match="column 's' is binary, which cannot be read as the name of a slice"):
        read_labelled(str(tmp_path / "bytes.parquet"), Columns(), slice_column="s")


def test_labels_in_a_table_are_refused(tmp_path: Path):
    """Kind: a table's dead rows. Nobody learns from rows that were deleted."""
    write_parts(tmp_path, "train", "validation", "test")
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(BadDataError, match=r"is the folder of a table \(Delta\)"):
        splits_of(tmp_path)
