"""Builders of the files that a run leaves out, each with its reason: the bad-input catalogue as code."""

import base64
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from stsb_batch.errors import StsbBatchError
from stsb_batch.pairs.listing import Listing
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import Columns
from stsb_batch.pairs.source import Shard, inspect_files, probe_rows, read_windows
from tests.builders import make_pairs

ROWS = 100
NUM_VALUES = b"\x16\xc8\x01"  # thrift: the next field but none, an i64, 100 as a zigzag varint
SNAPPY = b"\x15\x02" + NUM_VALUES  # codec (i32) in front of the number of values


def good(path: Path, **options) -> bytes:
    options = {"compression": "snappy"} | options
    pq.write_table(make_pairs(ROWS).drop("label").to_arrow(), path, **options)
    return path.read_bytes()


def of_bytes(change: Callable[[bytes], bytes], **options) -> Callable[[Path], None]:
    """A builder that changes the bytes of a good file."""

    def build(path: Path) -> None:
        content = good(path, **options)
        changed = change(content)
        assert changed != content
        path.write_bytes(changed)

    return build


def of_columns(**columns) -> Callable[[Path], None]:
    """A builder of a table with other columns."""
    return lambda path: pq.write_table(pa.table(columns), path)


def flip_in_page(content: bytes) -> bytes:
    place = len(content) // 3
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def long_footer(path: Path) -> None:
    """A sparse file whose footer is said to have 70 MiB."""
    size = 70 << 20
    with path.open("wb") as file:
        file.write(b"PAR1")
        file.truncate(4 + size)
        file.seek(4 + size)
        file.write(size.to_bytes(4, "little") + b"PAR1")


class LocalKms(pe.KmsClient):
    """A key service that only turns keys into text, enough to write an encrypted file."""

    def wrap_key(self, key_bytes: bytes, _: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped: bytes, _: str) -> bytes:
        return base64.b64decode(wrapped)


def encrypted(path: Path, *, plaintext_footer: bool) -> None:
    table = make_pairs(ROWS).drop("label").to_arrow()
    table = table.cast(pa.schema([("id", pa.int64()), ("sentence1", pa.string()), ("sentence2", pa.string())]))
    kms = pe.KmsConnectionConfig(custom_kms_conf={"foot": "0123456789012345", "cols": "1234567890123450"})
    config = pe.EncryptionConfiguration(
        footer_key="foot", column_keys={"cols": ["sentence1"]}, plaintext_footer=plaintext_footer
    )
    properties = pe.CryptoFactory(lambda _: LocalKms()).file_encryption_properties(kms, config)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


def many_rows(path: Path, rows: int = 20_000_000) -> None:
    """Rows of nulls that take a few bits in the file and much more in memory."""
    part = pa.table({"sentence1": pa.nulls(2_000_000, pa.string()), "sentence2": pa.nulls(2_000_000, pa.string())})
    with pq.ParquetWriter(path, part.schema, compression="zstd") as writer:
        for _ in range(rows // part.num_rows):
            writer.write_table(part)


def big_cell(path: Path, size: int = 70 << 20, rows: int = 1) -> None:
    """One text of many bytes, repeated by reference."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a" * size], pa.large_string()))
    pq.write_table(pa.table({"sentence1": texts, "sentence2": ["b"] * rows}), path, compression="zstd", store_schema=False)


def arrow_ipc(path: Path) -> None:
    make_pairs(ROWS).write_ipc(path)


def doubled_column(path: Path) -> None:
    pq.write_table(pa.table([["a"], ["b"], ["c"]], ["sentence1", "sentence1", "sentence2"]), path)


def text(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def texts(kind: pa.DataType | None, values: list) -> Callable[[Path], None]:
    return of_columns(sentence1=pa.array(values, kind), sentence2=pa.array(["b"] * len(values)))


BAD_FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "no bytes": ("NOT_PARQUET", lambda path: path.touch()),
    "three bytes": ("NOT_PARQUET", text(b"PAR")),
    "csv": ("NOT_PARQUET", text(b"sentence1,sentence2\na,b\n")),
    "json": ("NOT_PARQUET", text(json.dumps([{"sentence1": "a"}]).encode())),
    "gzip": ("NOT_PARQUET", text(gzip.compress(b"PAR1" * 100))),
    "arrow ipc": ("NOT_PARQUET", arrow_ipc),
    "fifo": ("NOT_PARQUET", os.mkfifo),
    "cut at a half": ("CORRUPT_FILE", of_bytes(lambda content: content[: len(content) // 2])),
    "cut by a byte": ("CORRUPT_FILE", of_bytes(lambda content: content[:-1])),
    "only the magic words": ("CORRUPT_FILE", text(b"PAR1PAR1")),
    "wrong magic at the head": ("CORRUPT_FILE", of_bytes(lambda content: b"XXXX" + content[4:])),
    "wrong magic at the tail": ("CORRUPT_FILE", of_bytes(lambda content: content[:-4] + b"XXXX")),
    "footer beyond the file": ("CORRUPT_FILE", of_bytes(lambda content: content[:-8] + b"\xff\xff\xff\x03PAR1")),
    "footer of 70 MiB": ("CORRUPT_FILE", long_footer),
    "footer of noise": ("CORRUPT_FILE", of_bytes(lambda content: content[:-40] + b"\x99" * 32 + content[-8:])),
    "wrong page checksum": ("CORRUPT_FILE", of_bytes(flip_in_page, write_page_checksum=True, compression="none")),
    "more rows promised": ("CORRUPT_FILE", of_bytes(lambda content: content.replace(NUM_VALUES, b"\x16\xca\x01"))),
    "wrong codec": ("UNSUPPORTED", of_bytes(lambda content: content.replace(SNAPPY, b"\x15\x04" + NUM_VALUES))),
    "unknown codec": ("UNSUPPORTED", of_bytes(lambda content: content.replace(SNAPPY, b"\x15\x06" + NUM_VALUES))),
    "encrypted footer": ("ENCRYPTED", lambda path: encrypted(path, plaintext_footer=False)),
    "encrypted column": ("ENCRYPTED", lambda path: encrypted(path, plaintext_footer=True)),
    "rows without bytes": ("RESOURCE_LIMIT", many_rows),
    "cell of 70 MB": ("RESOURCE_LIMIT", big_cell),
    "cell of 60 MB 500 times": ("RESOURCE_LIMIT", lambda path: big_cell(path, 60 << 20, 500)),
    "looping link": ("IO", lambda path: path.symlink_to(path)),
    "dangling link": ("IO", lambda path: path.symlink_to(path.with_name("nowhere"))),
    "column missing": ("SCHEMA", of_columns(sentence1=["a"])),
    "column in other case": ("SCHEMA", of_columns(sentence1=["a"], Sentence2=["b"])),
    "column with a trailing blank": ("SCHEMA", of_columns(**{"sentence1": ["a"], "sentence2 ": ["b"]})),
    "text column twice": ("SCHEMA", doubled_column),
    "binary text": ("SCHEMA", texts(pa.binary(), [b"a"])),
    "integer text": ("SCHEMA", texts(pa.int64(), [1])),
    "float text": ("SCHEMA", texts(pa.float64(), [1.5])),
    "boolean text": ("SCHEMA", texts(pa.bool_(), [True])),
    "date text": ("SCHEMA", texts(pa.date32(), [1])),
    "list text": ("SCHEMA", texts(pa.list_(pa.string()), [["a"]])),
    "struct text": ("SCHEMA", texts(pa.struct([("a", pa.string())]), [{"a": "b"}])),
}  # fmt: skip


def frame_with(rows: list[tuple[str | None, str | None]]) -> pl.DataFrame:
    return pl.DataFrame({"sentence1": [a for a, _ in rows], "sentence2": [b for _, b in rows]}, strict=False)


def take(path: Path, sandbox: Sandbox) -> int:
    """Read a file the way a job does, up to its last row; returns the rows. Raises `BadFileError`."""
    sources, bad = inspect_files(Listing([(path, Path(path.name))], []), Columns(), sandbox)
    if bad:
        raise bad[0].error
    source = probe_rows(sources[0], None, sandbox)
    groups = tuple(range(len(source.row_groups)))
    return sum(window.rows.num_rows for window in read_windows(Shard(source, groups, Path("o"), ""), None))


def outcome_of(path: Path, sandbox: Sandbox) -> str:
    """Say what becomes of a file: read, or the reason why not."""
    try:
        take(path, sandbox)
    except StsbBatchError as error:
        return getattr(error, "reason", type(error).__name__)
    return "read"
