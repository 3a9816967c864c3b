"""The bad-input catalogue: what each bad row costs, in default modes."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.errors import BadDataError, UsageError
from stsb_batch.report.table import figure
from tests.builders import make_pairs
from tests.reliability.bad_files import good
from tests.reliability.runs import score, score_table

pytestmark = pytest.mark.usefixtures("quick_engine")


BLANKS = [
    "",
    " ",
    "\t \n",
    "\u00a0",
    "\u200b\u200d",
    "\ufeff",
    "\u2028\u3000",
    "\x00",
    "\u2066",
    "\U000e0041",
    "\u0301",
    "\ufffd",
]


KEPT_AS_TEXT = [
    "a\x00b",
    "a\x07b",
    "\u202egnp.exe",
    "\x1b[31mred",
    "🚲👩‍👩‍👧",
    "e" + "\u0301" * 1000,
    "שלום",
    "[SEP]",
    "</s> <pad>",
]


def test_status_of_each_kind_of_text(tmp_path: Path, bert: Path):
    """Nulls, blanks, control characters, emoji, special tokens: each row has its status, in order, on either side."""
    cells = [None, *BLANKS, *KEPT_AS_TEXT]
    expected = ["NULL_INPUT"] + ["EMPTY_INPUT"] * len(BLANKS) + ["OK"] * len(KEPT_AS_TEXT)
    expected[cells.index("e" + "\u0301" * 1000)] = "OK"
    rows = [*[(cell, "b") for cell in cells], *[("a", cell) for cell in cells], (None, None)]
    table = pa.table({"n": range(len(rows)), "sentence1": [a for a, _ in rows], "sentence2": [b for _, b in rows]})
    scored = score_table(table, bert, tmp_path)
    assert scored["score_status"].to_pylist() == [*expected, *expected, "NULL_INPUT"]
    assert scored["n"].to_pylist() == list(range(len(rows)))
    assert scored.select(table.column_names).equals(table)
    assert [value is not None for value in scored["score"].to_pylist()] == [
        s == "OK" for s in scored["score_status"].to_pylist()
    ]


@pytest.mark.parametrize(
    "cell", [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", "é".encode()[:1]], ids=["byte", "surrogate", "overlong", "cut"]
)
def test_bytes_that_are_not_utf8(cell: bytes, tmp_path: Path, bert: Path):
    """A text that is not UTF-8 is INVALID_UTF8, is written back as it came, and costs its row only."""
    column = pa.array([b"good", cell, b"fine"], pa.binary()).view(pa.string())
    scored = score_table(pa.table({"sentence1": column, "sentence2": ["a", "b", "c"]}), bert, tmp_path)
    assert scored["score_status"].to_pylist() == ["OK", "INVALID_UTF8", "OK"]
    assert scored["sentence1"].combine_chunks().view(pa.binary()).to_pylist() == [b"good", cell, b"fine"]


@pytest.mark.parametrize(("piece", "status"), [("x", "OK"), ("word ", "OK_TRUNCATED"), ("x-", "OK_TRUNCATED")])
def test_cell_of_ten_megabytes(piece: str, status: str, tmp_path: Path, bert: Path):
    """Of a very long text the first tokens are scored; BERT takes a word of ten million letters for one unknown token."""
    table = pa.table({"sentence1": ["a", piece * (10_000_000 // len(piece))], "sentence2": ["b", "c"]})
    assert score_table(table, bert, tmp_path)["score_status"].to_pylist() == ["OK", status]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_other_text_layouts(kind: pa.DataType, tmp_path: Path, bert: Path):
    """Large, view and dictionary strings are text, and keep their type in the output."""
    table = pa.table({"sentence1": pa.array(["a", "b", "a"]).cast(kind), "sentence2": ["a", "c", "d"]})
    scored = score_table(table, bert, tmp_path)
    assert scored["score_status"].to_pylist() == ["OK"] * 3
    assert scored.schema.field("sentence1").type == kind


def test_column_of_nulls_breaks_the_budget(tmp_path: Path, bert: Path):
    """A null-typed text column gives NULL_INPUT throughout: above the budget the run fails with 65 and leaves nothing."""
    table = pa.table({"sentence1": pa.nulls(50), "sentence2": ["a"] * 50})
    assert set(score_table(table, bert, tmp_path)["score_status"].to_pylist()) == {"NULL_INPUT"}
    (tmp_path / "in.scored.parquet").unlink()
    with pytest.raises(BadDataError, match=r"50 rows have no score .*NULL_INPUT 50.*--max-bad-rows"):
        score_table(table, bert, tmp_path, max_bad_rows=0.05)
    assert not (tmp_path / "in.scored.parquet").exists()


def test_columns_that_only_pass_through_are_unchanged(tmp_path: Path, bert: Path):
    """Nested, decimal, map, timestamp, fixed-size and doubled columns come out as they went in."""
    table = pa.table(
        {
            "sentence1": ["a", "b"],
            "sentence2": ["c", "d"],
            "list": pa.array([[1, None], []], pa.list_(pa.int16())),
            "struct": pa.array([{"x": 1, "y": ["z"]}, None]),
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
            "decimal": pa.array(["1.25", None]).cast(pa.decimal128(9, 2)),
            "time": pa.array([1, 2], pa.timestamp("ns", "UTC")),
            "bytes": pa.array([b"\xff", None], pa.binary(1)),
        }
    )
    table = table.append_column("list", pa.array([1, 2]))
    scored = score_table(table, bert, tmp_path)
    assert scored.drop_columns(["score", "score_status"]).equals(table)


def test_int96_timestamps_pass_through(tmp_path: Path, bert: Path):
    """Timestamps in the old 96-bit form keep their values."""
    times = pa.array([1_700_000_000_000_000_000, None], pa.timestamp("ns"))
    table = pa.table({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "t": times})
    pq.write_table(table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True)
    outcome = score(tmp_path / "in.parquet", bert)
    assert pq.ParquetFile(outcome.target.single).read()["t"].to_pylist() == times.to_pylist()


def test_fail_modes_stop_at_the_first(tmp_path: Path, bert: Path):
    """--on-bad-file fail and --on-bad-row fail end with 65, name file or row, and leave no output."""
    (tmp_path / "in").mkdir()
    good(tmp_path / "in/a.parquet")
    (tmp_path / "in/b.parquet").write_bytes(b"nothing")
    with pytest.raises(BadDataError, match=r"b\.parquet: NOT_PARQUET"):
        score(tmp_path / "in", bert, on_bad_file="fail")
    (tmp_path / "in/b.parquet").unlink()
    frame = make_pairs(100)
    frame[70, "sentence2"] = " "
    frame.write_parquet(tmp_path / "in/a.parquet", row_group_size=30)
    with pytest.raises(BadDataError, match=r"a\.parquet: row 70 \(from 0\) is EMPTY_INPUT"):
        score(tmp_path / "in", bert, on_bad_row="fail")
    assert not list(tmp_path.rglob("in.scored/*.parquet"))
    with pytest.raises(UsageError, match="--on-bad-row takes"):
        score(tmp_path / "in", bert, on_bad_row="ignore")


def test_quarantined_rows_can_be_mended_and_scored(tmp_path: Path, bert: Path):
    """Rows in = rows out + quarantined rows; a mended quarantine file is input, and the labels stay beside their rows."""
    frame = make_pairs(200)
    frame[150, "sentence1"], frame[3, "sentence2"] = None, ""
    frame.write_parquet(tmp_path / "in.parquet", row_group_size=64)
    kept = score(tmp_path / "in.parquet", bert, tmp_path / "kept.parquet")
    outcome = score(tmp_path / "in.parquet", bert, on_bad_row="quarantine")
    assert pl.read_parquet(outcome.target.single)["id"].to_list() == [id_ for id_ in range(200) if id_ not in (3, 150)]
    for metric in ("pearson", "mse", "labels_left_out"):
        assert figure(outcome.report, metric) == figure(kept.report, metric)
    side = tmp_path / "_in.scored.quarantine.pq"
    rows = pl.read_parquet(side)
    assert rows.select("id", "quarantine_file", "quarantine_row", "quarantine_reason").rows() == [
        (3, "in.parquet", 3, "EMPTY_INPUT"),
        (150, "in.parquet", 150, "NULL_INPUT"),
    ]
    rows.with_columns(sentence1=pl.lit("mended"), sentence2=pl.lit("text")).write_parquet(tmp_path / "mended.parquet")
    assert score(tmp_path / "mended.parquet", bert).bad_rows == 0
