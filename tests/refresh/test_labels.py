"""Labelled pairs: reading, checking, splitting."""

from pathlib import Path

import datasets
import polars as pl
import pytest

from stsb_batch.errors import BadDataError, NothingToReadError
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.labels import load_labels
from tests.conftest import make_pairs


def test_halves_are_those_of_the_reference_recipe(labels_folder: Path):
    """Validation is cut into the halves that datasets' shuffle with seed 42 gives."""
    labels = load_labels(str(labels_folder), Columns())
    expected = datasets.Dataset.from_polars(pl.read_parquet(labels_folder / "validation.parquet")).shuffle(seed=42)
    assert (labels.train.height, labels.val.height, labels.test.height) == (5749, 750, 750)
    assert labels.val["left"].to_list() == expected["sentence1"][:750]
    assert labels.test["right"].to_list() == expected["sentence2"][750:]


def test_split_column_is_followed(tmp_path: Path):
    """A file with a column `split` is cut by it, `validation` being val."""
    split = ["train"] * 60 + ["validation"] * 20 + ["test"] * 20
    make_pairs(100).with_columns(split=pl.Series(split)).write_parquet(tmp_path / "l.parquet")
    labels = load_labels(str(tmp_path / "l.parquet"), Columns())
    assert [frame.height for _, frame in labels.items()] == [60, 20, 20]


def test_file_without_split_is_cut_by_a_fixed_seed(tmp_path: Path):
    """The same file is always cut the same way, 80 / 10 / 10, and no pair is lost."""
    make_pairs(100).write_parquet(tmp_path / "l.parquet")
    first, second = (load_labels(str(tmp_path / "l.parquet"), Columns()) for _ in range(2))
    assert [frame.height for _, frame in first.items()] == [80, 10, 10]
    assert first.fingerprint == second.fingerprint
    together = pl.concat([frame for _, frame in first.items()])
    assert sorted(together["left"]) == sorted(make_pairs(100)["sentence1"])


def test_fingerprint_follows_every_cell(tmp_path: Path):
    """Changing one label changes the fingerprint."""
    frame = make_pairs(50)
    frame.write_parquet(tmp_path / "a.parquet")
    frame.with_columns(label=pl.when(pl.col("id") == 7).then(4.25).otherwise("label")).write_parquet(tmp_path / "b.parquet")
    assert load_labels(str(tmp_path / "a.parquet"), Columns()).fingerprint != (
        load_labels(str(tmp_path / "b.parquet"), Columns()).fingerprint
    )


def test_leaked_pairs_are_counted_in_either_order(tmp_path: Path):
    """A test pair that is in train, or there with its sides swapped, counts as leaked."""
    pairs = [("a b", "c d"), ("e f", "g h"), ("i", "j"), ("k", "l"), ("c d", "a b"), ("e f", "g h"), ("m", "n")]
    split = ["train", "train", "val", "val", "test", "test", "test"]
    frame = pl.DataFrame(
        {"sentence1": [p[0] for p in pairs], "sentence2": [p[1] for p in pairs], "label": 1.0, "split": split}
    )
    frame.write_parquet(tmp_path / "l.parquet")
    assert load_labels(str(tmp_path / "l.parquet"), Columns()).leaked == 2


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", 5.5, "1 labels outside 0-5, first in row 3"),
        ("label", -1.0, "1 labels outside 0-5, first in row 3"),
        ("label", None, "1 null or NaN in 'label', first in row 3"),
        ("label", float("nan"), "1 null or NaN in 'label', first in row 3"),
        ("sentence2", None, "1 null texts, first in row 3"),
    ],
)
def test_bad_labels_are_counted_named_and_refused(tmp_path: Path, column: str, value, message: str):
    """A label that cannot be learned from is refused with its number and place, not with its text."""
    row = pl.col("id") == 3
    make_pairs(50).with_columns(pl.when(row).then(pl.lit(value)).otherwise(column).alias(column)).write_parquet(
        tmp_path / "l.parquet"
    )
    with pytest.raises(BadDataError, match=message):
        load_labels(str(tmp_path / "l.parquet"), Columns())


def test_other_column_names(tmp_path: Path):
    """Columns are named as in scoring; a missing one is told with those found."""
    make_pairs(50).rename({"sentence1": "a", "label": "gold"}).write_parquet(tmp_path / "l.parquet")
    assert load_labels(str(tmp_path / "l.parquet"), Columns("a", label="gold")).train.height == 40
    with pytest.raises(
        BadDataError, match=r"has no column 'sentence1' \(found: id, a, sentence2, gold\). Name it with --left"
    ):
        load_labels(str(tmp_path / "l.parquet"), Columns())


def test_what_is_no_labels(tmp_path: Path):
    """A missing path, an empty folder, a folder without val and a file that is no Parquet are told apart."""
    with pytest.raises(NothingToReadError, match="no such labels"):
        load_labels(str(tmp_path / "none.parquet"), Columns())
    with pytest.raises(NothingToReadError, match=r"holds no \.parquet"):
        load_labels(str(tmp_path), Columns())
    make_pairs(5).write_parquet(tmp_path / "train.parquet")
    with pytest.raises(BadDataError, match=r"no split val \(found: train\)"):
        load_labels(str(tmp_path), Columns())
    (tmp_path / "train.parquet").write_text("text")
    with pytest.raises(BadDataError, match=r"train\.parquet: not a readable Parquet file"):
        load_labels(str(tmp_path), Columns())
