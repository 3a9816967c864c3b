"""Labelled pairs: reading, checking, splitting."""

from pathlib import Path

import datasets
import polars as pl
import pytest

from stsb_batch.errors import BadDataError, NothingToReadError
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.labels import check_learnable, load_labels
from tests.builders import make_pairs


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
        ("sentence1", "\u200b\u00ad", "1 blank texts, first in row 3"),
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


def test_rows_without_a_split_and_splits_named_twice_are_refused(tmp_path: Path):
    """No labelled row vanishes: each has a split, and no two files are the same one."""
    split = pl.when(pl.col("id") < 20).then(pl.lit("train")).when(pl.col("id") < 40).then(pl.lit("val"))
    make_pairs(50).with_columns(split=split).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(BadDataError, match="10 rows have no split, first in row 40"):
        load_labels(str(tmp_path / "l.parquet"), Columns())
    for name in ("train", "dev", "validation"):
        make_pairs(50).write_parquet(tmp_path / f"folder/{name}.parquet", mkdir=True)
    with pytest.raises(BadDataError, match=r"validation\.parquet is the same split as another file"):
        load_labels(str(tmp_path / "folder"), Columns())


def test_splits_in_numbered_files_as_hubs_have_them(tmp_path: Path):
    """Numbered files of one split are read as one, in order; one that is missing, or a split by two names, is refused."""
    pairs = make_pairs(60)
    parts = {
        "train-00000-of-00002": pairs[:20],
        "train-00001-of-00002": pairs[20:40],
        "validation-00000-of-00001": pairs[40:],
    }
    for name, rows in parts.items():
        rows.write_parquet(tmp_path / f"{name}.parquet")
    labels = load_labels(str(tmp_path), Columns())
    assert labels.train["left"].to_list() == pairs["sentence1"][:40].to_list()
    assert labels.val.height + labels.test.height == 20
    pairs[:2].drop("label").write_parquet(tmp_path / "train-00001-of-00002.parquet")
    with pytest.raises(BadDataError, match=r"train-00001-of-00002\.parquet: has no column 'label'"):
        load_labels(str(tmp_path), Columns())
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(BadDataError, match=r"train-00000-of-00002\.parquet is missing, one of 2 files"):
        load_labels(str(tmp_path), Columns())
    pairs[:20].write_parquet(tmp_path / "train-00000-of-00002.parquet")
    pairs[:20].write_parquet(tmp_path / "train.parquet")
    with pytest.raises(BadDataError, match=r"train\.parquet is the same split as another file"):
        load_labels(str(tmp_path), Columns())


@pytest.mark.parametrize("column", ["sentence1", "split"])
@pytest.mark.parametrize("kind", [pl.Int64, pl.List(pl.Int64), pl.Binary])
def test_columns_of_other_kinds_are_refused(column: str, kind: pl.DataType, tmp_path: Path):
    """Numbers, lists and bytes are neither texts nor splits."""
    cells = pl.Series([b"x"] * 50) if kind == pl.Binary else pl.Series(range(50)).cast(pl.Int64)
    cells = cells.reshape((50, 1)).cast(kind) if kind.is_nested() else cells
    make_pairs(50).with_columns(cells.alias(column)).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(BadDataError, match=f"column '{column}' is .*, not text"):
        load_labels(str(tmp_path / "l.parquet"), Columns())


def test_other_column_names(tmp_path: Path):
    """Columns are named as in scoring; a missing one is told with those found."""
    make_pairs(50).rename({"sentence1": "a", "label": "gold"}).write_parquet(tmp_path / "l.parquet")
    assert load_labels(str(tmp_path / "l.parquet"), Columns("a", label="gold")).train.height == 40
    with pytest.raises(
        BadDataError,
        match=r"no column 'sentence1' \(found: id, a, sentence2, gold; similar: sentence2\). Name it with --left",
    ):
        load_labels(str(tmp_path / "l.parquet"), Columns())


def test_what_is_no_labels(tmp_path: Path):
    """A missing path, an empty folder, a folder without val and a file that is no Parquet are told apart."""
    with pytest.raises(NothingToReadError, match="no such labels"):
        load_labels(str(tmp_path / "none.parquet"), Columns())
    with pytest.raises(NothingToReadError, match=r"contains no \.parquet"):
        load_labels(str(tmp_path), Columns())
    make_pairs(5).write_parquet(tmp_path / "train.parquet")
    with pytest.raises(BadDataError, match=r"no split val \(found: train\)"):
        load_labels(str(tmp_path), Columns())
    (tmp_path / "train.parquet").write_text("text")
    with pytest.raises(BadDataError, match=r"train\.parquet: NOT_PARQUET"):
        load_labels(str(tmp_path), Columns())


def grouped(count: int, *, size: int = 3) -> pl.DataFrame:
    """Make pairs in groups of `size`: each group's pairs share one left text, sometimes on the other side."""
    rows = [(f"text {row // size}", f"other {row}") for row in range(count)]
    sides = [pair if row % 2 else pair[::-1] for row, pair in enumerate(rows)]
    return pl.DataFrame({"sentence1": [a for a, _ in sides], "sentence2": [b for _, b in sides]}).with_columns(
        label=pl.int_range(count) % 6
    )


def test_pairs_that_share_a_text_stay_on_one_side(tmp_path: Path):
    """No text of a seed split is on two sides, whichever column, case or blanks it comes in; sizes are 80 / 10 / 10."""
    frame = grouped(600).with_columns(
        sentence1=pl.when(pl.int_range(600) % 5 == 0)
        .then(pl.col("sentence1").str.to_uppercase() + " ")
        .otherwise("sentence1")
    )
    frame.write_parquet(tmp_path / "l.parquet")
    labels = load_labels(str(tmp_path / "l.parquet"), Columns())
    assert [frame.height for _, frame in labels.items()] == [480, 60, 60]
    texts = [{text.strip().lower() for side in ("left", "right") for text in frame[side]} for _, frame in labels.items()]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]


def test_pairs_keep_their_side_when_labels_grow(tmp_path: Path):
    """A tenth more labels moves few of the pairs that were held out before."""
    for name, rows in (("old", 3_000), ("new", 3_300)):
        grouped(rows, size=2).write_parquet(tmp_path / f"{name}.parquet")
    old, new = (load_labels(str(tmp_path / f"{name}.parquet"), Columns()) for name in ("old", "new"))
    seen = set(new.train["left"])
    assert sum(text in seen for text in old.test["left"]) < 0.15 * old.test.height


def test_labels_in_one_piece_cannot_be_split(tmp_path: Path):
    """Where most pairs hang together through shared texts, the message asks for a split column instead of leaking."""
    grouped(200, size=200).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(BadDataError, match=r"shared texts connect most of its.*column 'split'"):
        load_labels(str(tmp_path / "l.parquet"), Columns())


def test_few_bad_rows_are_left_out_and_counted(tmp_path: Path):
    """Up to 1 % of unusable rows are left out, each fault counted, and named in a warning without their text."""
    frame = make_pairs(1_000)
    frame[3, "label"], frame[4, "label"], frame[5, "sentence1"], frame[6, "sentence2"] = None, 7.0, None, "  "
    frame.write_parquet(tmp_path / "l.parquet")
    labels = load_labels(str(tmp_path / "l.parquet"), Columns())
    assert sum(part.height for _, part in labels.items()) == 996
    assert labels.left_out == {"null or NaN in 'label'": 1, "labels outside 0-5": 1, "null texts": 1, "blank texts": 1}


def test_pairs_with_different_labels_are_counted(tmp_path: Path):
    """A pair that is there again, in either order, with another label is kept and counted."""
    frame = make_pairs(400).drop("id")
    again = (
        frame[:3]
        .select(sentence1="sentence2", sentence2="sentence1", label=pl.Series([None, 0.1, 5.0], dtype=pl.Float32))
        .with_columns(label=pl.coalesce("label", frame["label"][:3]))
    )
    pl.concat([frame, again]).write_parquet(tmp_path / "l.parquet")
    labels = load_labels(str(tmp_path / "l.parquet"), Columns())
    assert sum(part.height for _, part in labels.items()) == 403
    assert labels.conflicts.different == 4
    check_learnable(labels, "l.parquet")


def test_labels_that_contradict_themselves_are_refused(tmp_path: Path):
    """When many pairs come again with labels more than a step apart, the labels are refused with their number."""
    frame = make_pairs(200).drop("id").with_columns(label=pl.int_range(200) % 3)
    pl.concat([frame, frame[:40].with_columns(label=pl.lit(5).cast(pl.Int64))]).write_parquet(tmp_path / "l.parquet")
    labels = load_labels(str(tmp_path / "l.parquet"), Columns())
    with pytest.raises(BadDataError, match=r"80 of 240 pairs occur again with a label more than 1 away"):
        check_learnable(labels, "l.parquet")


def test_equal_labels_are_refused(tmp_path: Path):
    """Labels that are all the same teach nothing, and the message says which."""
    make_pairs(100).with_columns(label=pl.lit(3.0)).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(BadDataError, match="all 80 labels of split train are 3, so that nothing can be learned"):
        check_learnable(load_labels(str(tmp_path / "l.parquet"), Columns()), "l.parquet")


def test_slices_follow_their_pairs(tmp_path: Path):
    """The slice column arrives at the test pairs it belongs to, through shuffling and halving."""
    frame = make_pairs(100).with_columns(kind="sentence1", split=pl.Series(["train"] * 60 + ["val"] * 40))
    frame.write_parquet(tmp_path / "l.parquet")
    labels = load_labels(str(tmp_path / "l.parquet"), Columns(), slice_column="kind")
    assert labels.slices.to_list() == labels.test["left"].to_list()
    assert load_labels(str(tmp_path / "l.parquet"), Columns()).slices is None
    with pytest.raises(BadDataError, match=r"has no column 'sort' .* Name it with --slice"):
        load_labels(str(tmp_path / "l.parquet"), Columns(), slice_column="sort")
