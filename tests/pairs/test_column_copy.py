"""Columns that pass through: every reader sees the values and types of the input, and the new columns beside them."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.errors import BadFileError
from stsb_batch.pairs.column_copy import encode
from stsb_batch.pairs.footer import ChunkField, ElementField, FileField, GroupField, MetaField, read_footer
from stsb_batch.pairs.hints import PANDAS, SPARK
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.thrift import BINARY, I32, I64, STRUCT, Struct, read_struct, write_struct
from tests.pairs.odd_parquet import make_odd_file, pass_through, readings, rewrite_footer

TEXTS = {"sentence1": ["a", "b", "c"], "sentence2": ["d", "e", "f"]}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as opened:
        yield opened


@pytest.fixture
def passed(tmp_path: Path, sandbox: Sandbox) -> Callable[..., Path]:
    """Pass a file through and return the output."""

    def run(path: Path, bad: Callable[[int], np.ndarray] | None = None) -> Path:
        output = tmp_path / "scored.parquet"
        pass_through(path, output, sandbox, bad)
        return output

    return run


def write(path: Path, columns: dict, **options) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def second_is_bad(rows: int) -> np.ndarray:
    return np.arange(rows) == 1


def same_readings(before: Path, after: Path) -> None:
    expected, found = readings(before), readings(after, leave_out=2)
    for reader, reading in expected.items():
        assert repr(found[reader]) == repr(reading), reader


@pytest.mark.parametrize("seed", range(24))
def test_odd_files_pass_through(seed: int, tmp_path: Path, sandbox: Sandbox):
    """Kind: types and values that change on the way. Whatever the file, three readers see the same columns as before."""
    path, output = make_odd_file(seed, tmp_path), tmp_path / "scored.parquet"
    pass_through(path, output, sandbox)
    same_readings(path, output)


def test_int96_is_copied_as_it_is(tmp_path: Path, passed):
    """Kind: timestamps outside of Arrow's nanoseconds. Years 1 and 9999 stay, as INT96 for the engine that wrote them."""
    moments = [dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1), None]
    times = {"valid_to": pa.array(moments, pa.timestamp("us"))}
    path = write(tmp_path / "in.parquet", TEXTS | times, use_deprecated_int96_timestamps=True)
    output = passed(path)
    assert pq.read_metadata(output).schema.column(2).physical_type == "INT96"
    assert duckdb.read_parquet(str(output)).project("valid_to").fetchall() == [(moment,) for moment in moments]


def test_logical_types_that_arrow_does_not_know_stay(tmp_path: Path, passed):
    """Kind: annotations lost on the way: UUID, JSON, INTERVAL, TIMETZ and more keep their types in another reader."""
    path = tmp_path / "in.parquet"
    columns = "uuid() u, json('[1]') j, interval 1 month iv, '01:02:03+01'::timetz tz, 'x'::enum('x') e"
    duckdb.sql(f"copy (select 'a' sentence1, 'b' sentence2, {columns}) to '{path}'")
    types = duckdb.read_parquet(str(passed(path))).types[2:7]
    assert list(map(str, types)) == ["UUID", "JSON", "INTERVAL", "TIME WITH TIME ZONE", "VARCHAR"]
    same_readings(path, tmp_path / "scored.parquet")


def test_a_struct_without_fields_is_copied(tmp_path: Path, passed):
    """Kind: columns that Arrow reads and does not write."""
    path = write(tmp_path / "in.parquet", TEXTS, store_schema=False)

    def add_struct(footer: Struct) -> None:
        elements = footer.items_of(FileField.SCHEMA)
        elements[0].put(ElementField.CHILDREN, I32, 3)
        elements.append(
            Struct(
                {ElementField.REPETITION: (I32, 1), ElementField.NAME: (BINARY, b"extra"), ElementField.CHILDREN: (I32, 0)}
            )
        )

    rewrite_footer(path, add_struct)
    assert pq.read_table(passed(path)).schema.names == ["sentence1", "sentence2", "extra", "score", "score_status"]


def test_spark_sees_the_new_columns(tmp_path: Path, passed):
    """Kind: a footer entry that describes the schema for one reader. Spark's gets the new columns, its other keys stay."""
    fields = [{"name": name, "type": "string", "nullable": True, "metadata": {"k": 1}} for name in TEXTS]
    entries = {
        SPARK: json.dumps({"type": "struct", "fields": fields}),
        b"org.apache.spark.legacyINT96": b"",
        b"mine": b"\xff",
    }
    pq.write_table(pa.table(TEXTS).replace_schema_metadata(entries), path := tmp_path / "in.parquet")
    metadata = pq.read_metadata(passed(path)).metadata
    described = json.loads(metadata[SPARK])["fields"]
    assert described[:2] == fields
    assert [(field["name"], field["type"], field["nullable"]) for field in described[2:]] == [
        ("score", "float", True),
        ("score_status", "string", False),
    ]
    assert (metadata[b"org.apache.spark.legacyINT96"], metadata[b"mine"]) == (b"", b"\xff")
    assert pq.read_schema(tmp_path / "scored.parquet").metadata[SPARK] == metadata[SPARK]


@pytest.mark.parametrize("key", [b"parquet.avro.schema", b"iceberg.schema", b"org.apache.spark.sql.parquet.row.metadata"])
def test_a_description_that_cannot_be_rewritten_is_dropped(tmp_path: Path, passed, key: bytes):
    """Kind: a footer entry that would hide the new columns. What cannot be extended goes; Parquet's schema is left."""
    pq.write_table(pa.table(TEXTS).replace_schema_metadata({key: b"{}"}), path := tmp_path / "in.parquet")
    assert key not in pq.read_metadata(passed(path)).metadata


def test_entries_beside_the_arrow_schema_stay(tmp_path: Path, passed):
    """Kind: footer entries that Arrow does not show where there is an ARROW:schema."""
    path = write(tmp_path / "in.parquet", TEXTS)
    rewrite_footer(
        path,
        lambda footer: footer.items_of(FileField.KEY_VALUES).append(Struct({1: (BINARY, b"owner"), 2: (BINARY, b"us")})),
    )
    assert pq.read_metadata(passed(path)).metadata[b"owner"] == b"us"


def test_pandas_reads_columns_of_several_levels(tmp_path: Path, passed):
    """Kind: pandas' own description. With column names of two levels it is dropped, else extended, and the index stays."""
    frame = pd.DataFrame(TEXTS | {"n": [1, 2, 3]}, index=pd.Index(["x", "y", "z"], name="key"))
    frame.to_parquet(path := tmp_path / "plain.parquet")
    read = pd.read_parquet(passed(path))
    assert (list(read.index), list(read.columns)) == (
        ["x", "y", "z"],
        ["sentence1", "sentence2", "n", "score", "score_status"],
    )
    (tmp_path / "scored.parquet").unlink()
    levels = pa.table({**TEXTS, "('n', 'x')": [1, 2, 3]})
    described = {
        "index_columns": [],
        "column_indexes": [{"pandas_type": "unicode"}, {"pandas_type": "unicode"}],
        "columns": [],
    }
    pq.write_table(levels.replace_schema_metadata({PANDAS: json.dumps(described)}), path := tmp_path / "levels.parquet")
    assert list(pd.read_parquet(passed(path)).columns)[-2:] == ["score", "score_status"]


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_delta_texts_are_read(tmp_path: Path, passed, encoding: str):
    """Kind: encodings that Arrow does not read as dictionaries: as texts, as other columns, in pages of both versions."""
    encodings = dict.fromkeys(["sentence1", "note", "blob"], encoding)
    more = {"note": ["n"] * 3, "blob": [b"\x00", None, b""]}
    path = write(
        tmp_path / "in.parquet", TEXTS | more, use_dictionary=False, column_encoding=encodings, data_page_version="2.0"
    )
    assert pl.read_parquet(passed(path))["note"].to_list() == ["n"] * 3


def test_a_bomb_of_shared_prefixes_is_refused(tmp_path: Path, passed):
    """Kind: few bytes worth many. A value that DELTA_BYTE_ARRAY repeats by its prefix is seen before it fills the memory."""
    texts = pa.chunked_array([pa.array(["x" * (1 << 20)])] * 1_500)
    columns = {"sentence1": texts, "sentence2": texts}
    encodings = dict.fromkeys(columns, "DELTA_BYTE_ARRAY")
    path = write(tmp_path / "in.parquet", columns, use_dictionary=False, column_encoding=encodings, compression="zstd")
    with pytest.raises(BadFileError, match="RESOURCE_LIMIT"):
        passed(path)


def test_hadoop_framed_lz4_is_read(tmp_path: Path, passed):
    """Kind: codecs that Arrow reads and does not name: LZ4 in the frames of Hadoop (codec 5)."""
    path = write(tmp_path / "in.parquet", TEXTS, compression="lz4", use_dictionary=False, write_statistics=False)
    frame_as_hadoop(path)
    assert pq.read_metadata(path).row_group(0).column(0).compression == "UNKNOWN"
    assert pl.read_parquet(passed(path))["sentence1"].to_list() == ["a", "b", "c"]


def frame_as_hadoop(path: Path) -> None:
    """Put each page of an LZ4_RAW file into a frame of Hadoop: sizes unpacked and packed, big endian, before the block."""
    content = path.read_bytes()
    with path.open("rb") as file:
        footer = read_footer(file, len(content))
    out = bytearray(b"PAR1")
    for group in footer.items_of(FileField.ROW_GROUPS):
        for chunk in group.items_of(GroupField.CHUNKS):
            meta = chunk.value(ChunkField.META)
            header, begin = read_struct(content, meta.value(MetaField.DATA_OFFSET))
            body = content[begin : begin + header.value(3)]
            framed = header.value(2).to_bytes(4, "big") + len(body).to_bytes(4, "big") + body
            header.put(3, I32, len(framed))
            meta.put(MetaField.DATA_OFFSET, I64, len(out))
            meta.put(MetaField.CODEC, I32, 5)
            out += write_struct(header) + framed
            meta.put(MetaField.COMPRESSED, I64, len(out) - meta.value(MetaField.DATA_OFFSET))
    new = write_struct(footer)
    path.write_bytes(out + new + len(new).to_bytes(4, "little") + b"PAR1")


def first_chunk(footer: Struct) -> Struct:
    return footer.items_of(FileField.ROW_GROUPS)[0].items_of(GroupField.CHUNKS)[0]


REFUSED = {
    "unknown codec": (
        lambda f: first_chunk(f).value(3).put(MetaField.CODEC, I32, 5000),
        "UNSUPPORTED, the codec .* number 5000",
    ),
    "negative codec": (
        lambda f: first_chunk(f).value(3).put(MetaField.CODEC, I32, -1),
        "UNSUPPORTED, the codec .* number -1",
    ),
    "LZO": (
        lambda f: first_chunk(f).value(3).put(MetaField.CODEC, I32, 3),
        "UNSUPPORTED, the codec of .*'sentence1' is LZO",
    ),
    "encrypted column": (lambda f: first_chunk(f).put(ChunkField.CRYPTO, STRUCT, Struct()), "ENCRYPTED, column 'sentence1'"),
    "no metadata": (lambda f: first_chunk(f).pop(ChunkField.META), "ENCRYPTED, a column is encrypted"),
    "other file": (
        lambda f: first_chunk(f).put(ChunkField.FILE_PATH, BINARY, b"../x"),
        "UNSUPPORTED, .*is stored in another file",
    ),
    "name": (
        lambda f: f.items_of(2)[1].put(ElementField.NAME, BINARY, b"a\xff"),
        r"UNSUPPORTED, the column name 'a\\xff' is not",
    ),
    "fields": (lambda f: f.items_of(2)[0].put(ElementField.CHILDREN, I32, 7), "CORRUPT_FILE, its footer is damaged"),
    "chunks": (lambda f: f.items_of(4)[0].items_of(1).pop(), "CORRUPT_FILE, its footer is damaged"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_named(what: str, tmp_path: Path, passed):
    """Kind: files that end the reader. The class is right and the message names column and cause."""
    change, words = REFUSED[what]
    path = write(tmp_path / "in.parquet", TEXTS)
    rewrite_footer(path, change)
    with pytest.raises(BadFileError, match=words):
        passed(path)


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


def test_pages_without_checksums_get_them(tmp_path: Path, passed):
    """A bit that flips in what was copied is noticed by a reader that verifies, although the input had no checksums."""
    path = write(tmp_path / "in.parquet", {k: v * 200 for k, v in TEXTS.items()}, compression="none", use_dictionary=False)
    output = passed(path)
    content = bytearray(output.read_bytes())
    content[1000] ^= 1
    output.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(output, page_checksum_verification=True).read()


def test_a_damaged_page_header_is_an_error(tmp_path: Path, passed):
    """Bytes that are no page header end the copy with CORRUPT_FILE, never with a traceback or a loop."""
    path = write(tmp_path / "in.parquet", TEXTS)
    whole = path.read_bytes()
    for place in range(4, 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        (tmp_path / "scored.parquet").unlink(missing_ok=True)
        try:
            passed(path)
        except BadFileError as error:
            assert error.reason in ("CORRUPT_FILE", "RESOURCE_LIMIT", "UNSUPPORTED")


def test_chunks_of_one_row_group_only(tmp_path: Path):
    """A table is written as one row group, whatever its rows."""
    _, footer = encode(pa.table({"x": range(2_000_000)}))
    assert len(footer.items_of(FileField.ROW_GROUPS)) == 1
