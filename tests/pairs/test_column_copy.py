"""Columns that pass through: every reader sees the values and types of the input, and the new columns beside them."""

import datetime as dt
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.errors import BadFileError
from stsb_batch.pairs.footer import ChunkField, ElementField, FileField, GroupField, MetaField, read_footer
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.thrift import BINARY, I32, I64, Struct, read_struct, write_struct
from tests.pairs.odd_parquet import (
    TEXTS,
    make_odd_file,
    pass_through,
    rewrite_footer,
    same_readings,
    write,
)


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


def test_pages_without_checksums_get_them(tmp_path: Path, passed):
    """A bit that flips in what was copied is noticed by a reader that verifies, although the input had no checksums."""
    path = write(tmp_path / "in.parquet", {k: v * 200 for k, v in TEXTS.items()}, compression="none", use_dictionary=False)
    output = passed(path)
    content = bytearray(output.read_bytes())
    content[1000] ^= 1
    output.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(output, page_checksum_verification=True).read()
