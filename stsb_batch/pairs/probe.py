"""Find out what is wrong with a Parquet file by reading it. Runs in a child process that serves many files (`sandbox.py`).

Requests and replies are lines of JSON on stdin and stdout. The footer is checked before anything is decoded. A full probe
then decodes every page that the job will read, with text columns as dictionaries, so that a long value that is repeated
by reference is noticed before it is expanded. The kernel limits memory: what does not fit raises or kills this process.
"""

import contextlib
import json
import os
import re
import resource
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stsb_batch.errors import first_line
from stsb_batch.pairs.column_copy import MAX_GROUP_ROWS
from stsb_batch.pairs.convert import conversion
from stsb_batch.pairs.footer import UnreadableFooter, delta_columns, read_footer, refusals

MEMORY = 1 << 30  # bytes that reading may take in addition to the libraries
MAX_FOOTER = 64 << 20
MAX_COLUMNS = 10_000
BUFFER = 1 << 18  # bytes read ahead in each column
MAX_DEPTH = 64  # parts of a nested column's path
MAX_CHUNK = 2**31 - 1  # uncompressed bytes of one column in one row group; above this, 32-bit offsets overflow
MAX_CELL = 64 << 20  # bytes of one value
SMALL_ROWS, MAX_ROWS_PER_BYTE = 1_000_000, 64  # the ratio is checked only for files with more rows
SMALL_BYTES, MAX_EXPANSION = 256 << 20, 1_000  # the ratio is checked only for files that unpack to more bytes
BATCH_BYTES, BATCH_ROWS = 32 << 20, 4_096
UNSUPPORTED_WORDS = r"codec|implemented|supported|unknown (encoding|type)"  # in messages of the Parquet reader
REMEDIES = {
    "ENCRYPTED": "Decrypt it first",
    "UNSUPPORTED": "Write it again with another codec or name, with the engine that wrote it",
}
MAGIC, ENCRYPTED_MAGIC, TAIL = b"PAR1", b"PARE", 8


class Rejected(Exception):
    """A file that cannot be used; `reason` is one of the file reasons, `remedy` says what to do."""

    def __init__(self, reason: str, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.remedy = remedy


def probe_footer(path: Path, columns: list[str] | None = None) -> None:
    """Check a file's type, magic bytes and footer, and the size of `columns` (None: all). Raises `Rejected`.

    Decodes no page.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise Rejected("NOT_PARQUET", "not a regular file")
    _check_magic(path, status.st_size)
    _check_footer(path, columns)
    try:
        metadata = pq.read_metadata(path)
        metadata.schema.to_arrow_schema()
    except (OSError, ValueError, NotImplementedError, pa.ArrowException) as error:
        raise _rejected(error, "its footer cannot be read") from error
    if metadata.num_columns > MAX_COLUMNS:
        raise Rejected("RESOURCE_LIMIT", f"{metadata.num_columns:,} columns, above the limit of {MAX_COLUMNS:,}")
    for index in range(metadata.num_columns):
        if metadata.schema.column(index).path.count(".") >= MAX_DEPTH:
            raise Rejected("RESOURCE_LIMIT", f"columns nested more than {MAX_DEPTH} deep")
    _check_sizes(metadata, status.st_size, columns)


def _check_magic(path: Path, size: int) -> None:
    with path.open("rb") as file:
        head = file.read(len(MAGIC))
        file.seek(max(0, size - TAIL))
        tail = file.read(TAIL)
    if ENCRYPTED_MAGIC in (head, tail[4:]):
        raise Rejected("ENCRYPTED", "its footer is encrypted")
    if MAGIC not in (head, tail[4:]):
        raise Rejected("NOT_PARQUET", "not a Parquet file" if size else "0 bytes, not a Parquet file", conversion(path))
    if head != MAGIC or tail[4:] != MAGIC or size < len(MAGIC) + TAIL:
        raise Rejected("CORRUPT_FILE", "truncated: the magic bytes are missing at one end")
    length = int.from_bytes(tail[:4], "little")
    if length > size - len(MAGIC) - TAIL:
        raise Rejected("CORRUPT_FILE", "truncated: its footer is longer than the file")
    if length > MAX_FOOTER:
        raise Rejected("CORRUPT_FILE", f"a footer of {length >> 20:,} MiB, above the limit of {MAX_FOOTER >> 20}")


def _check_footer(path: Path, columns: list[str] | None) -> None:
    """Reject what crashes the reader: unknown codecs, encrypted columns, column names that are not UTF-8."""
    try:
        with path.open("rb") as file:
            footer = read_footer(file, path.stat().st_size)
    except UnreadableFooter as error:
        raise Rejected("CORRUPT_FILE", str(error)) from error
    for reason, words in refusals(footer, columns):
        raise Rejected(reason, words, REMEDIES.get(reason))


def _check_sizes(metadata: pq.FileMetaData, size: int, columns: list[str] | None) -> None:
    """Compare the sizes in the footer with the file's size, against decompression bombs."""
    rows, unpacked = 0, 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        if group.num_rows < 0:
            raise Rejected("CORRUPT_FILE", "its footer gives a negative number of rows")
        if group.num_rows > MAX_GROUP_ROWS:
            raise Rejected(
                "RESOURCE_LIMIT", f"a row group of {group.num_rows:,} rows, above the limit of {MAX_GROUP_ROWS:,}"
            )
        rows += group.num_rows
        for chunk in map(group.column, range(group.num_columns)):
            if columns is not None and not any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in columns):
                continue
            if chunk.total_uncompressed_size > MAX_CHUNK:
                raise Rejected("RESOURCE_LIMIT", f"column '{chunk.path_in_schema}' has more than 2 GiB in one row group")
            unpacked += chunk.total_uncompressed_size
    if rows > SMALL_ROWS and rows > MAX_ROWS_PER_BYTE * size:
        raise Rejected("RESOURCE_LIMIT", f"{rows:,} rows in {size:,} bytes")
    if unpacked > SMALL_BYTES and unpacked > MAX_EXPANSION * size:
        raise Rejected("RESOURCE_LIMIT", f"{size:,} bytes that unpack to {unpacked:,}")


def probe_pages(path: Path, columns: list[str] | None, texts: list[str], alive: Callable[[], None]) -> float:
    """Decode every page of `columns` (None: all), of `texts` as dictionaries; `alive()` is called after each batch.

    Returns bytes per row in the batch whose rows are largest. Raises `Rejected` for wrong checksums, wrong row counts and
    oversized values.
    """
    heaviest, total, size = 0.0, 0, path.stat().st_size
    try:
        with path.open("rb") as file:
            plain = delta_columns(read_footer(file, size))
        dictionaries = [name for name in texts if name not in plain]
        with pq.ParquetFile(
            path, read_dictionary=dictionaries, page_checksum_verification=True, pre_buffer=False, buffer_size=BUFFER
        ) as file:
            for group in range(file.num_row_groups):
                expected, read = file.metadata.row_group(group).num_rows, 0
                for batch in file.iter_batches(
                    _batch_rows(file.metadata.row_group(group)), row_groups=[group], columns=columns, use_threads=False
                ):
                    read += batch.num_rows
                    unpacked = _unpacked_bytes(batch)
                    heaviest = max(heaviest, unpacked / max(1, batch.num_rows))
                    total += unpacked
                    if total > SMALL_BYTES and total > MAX_EXPANSION * size:
                        raise Rejected("RESOURCE_LIMIT", f"{size:,} bytes that unpack to more than {total:,}")
                    alive()
                if read != expected:
                    raise Rejected("CORRUPT_FILE", f"row group {group} has {read:,} rows, not {expected:,}")
    except (OSError, ValueError, NotImplementedError, pa.ArrowException) as error:
        raise _rejected(error, "its pages cannot be read") from error
    return heaviest


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    unpacked = sum(group.column(index).total_uncompressed_size for index in range(group.num_columns))
    return max(1, min(BATCH_ROWS, BATCH_BYTES * max(1, group.num_rows) // max(1, unpacked)))


def _unpacked_bytes(batch: pa.RecordBatch) -> int:
    """Return the bytes of a batch with its dictionaries expanded; raises `Rejected` for a value above the limit."""
    total = 0
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        is_dictionary = pa.types.is_dictionary(column.type)
        if not has_lengths(column.type.value_type if is_dictionary else column.type):
            total += column.nbytes
            continue
        lengths = pc.binary_length(column.dictionary if is_dictionary else column)
        longest = pc.max(lengths).as_py() or 0
        if longest > MAX_CELL:
            raise Rejected("RESOURCE_LIMIT", f"a value of {longest:,} bytes in column '{name}'")
        total += pc.sum(lengths.take(column.indices) if is_dictionary else lengths).as_py() or 0
    return total


def has_lengths(kind: pa.DataType) -> bool:
    """Say whether values of this type are strings or bytes, which Parquet can read as a dictionary."""
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _rejected(error: BaseException, what: str) -> Rejected:
    """Turn an error of the Parquet reader into a file reason; the reader's message is kept."""
    words = first_line(error)
    reason = "CORRUPT_FILE"
    if isinstance(error, MemoryError) or "malloc" in words:
        reason = "RESOURCE_LIMIT"
    elif "crypt" in words.lower():
        reason = "ENCRYPTED"
    elif isinstance(error, NotImplementedError) or re.search(UNSUPPORTED_WORDS, words, re.IGNORECASE):
        reason = "UNSUPPORTED"
    elif isinstance(error, OSError) and error.errno is not None:
        reason = "IO"
    return Rejected(reason, f"{what} ({words})")


def answer(request: dict[str, Any], alive: Callable[[], None]) -> dict[str, Any]:
    """Probe the file of a request: `path` (hex), `columns`, `texts`, `pages` (footer only when false)."""
    path = Path(os.fsdecode(bytes.fromhex(request["path"])))
    try:
        if not request["pages"]:
            probe_footer(path, request["columns"])
            return {"ok": True}
        return {"ok": True, "bytes_per_row": probe_pages(path, request["columns"], request["texts"], alive)}
    except Rejected as rejected:
        return {"ok": False, "reason": rejected.reason, "message": str(rejected), "remedy": rejected.remedy}
    except MemoryError:
        return {"ok": False, "reason": "RESOURCE_LIMIT", "message": f"reading it takes more than {MEMORY >> 20:,} MiB"}
    except PermissionError:
        return {"ok": False, "reason": "IO", "message": "no permission to read it", "permission": True}
    except OSError as error:
        return {"ok": False, "reason": "IO", "message": error.strerror or str(error)}


def limit_memory() -> None:
    """Limit this process to `MEMORY` more address space than it has now (Linux only), and let it write no core file.

    A core file would contain the input's text.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Answer requests until stdin ends."""
    limit_memory()

    def write(reply: dict[str, Any]) -> None:
        print(json.dumps(reply), flush=True)

    write({"alive": True})
    for line in sys.stdin:
        write(answer(json.loads(line), alive=lambda: write({"alive": True})))


if __name__ == "__main__":
    main()
