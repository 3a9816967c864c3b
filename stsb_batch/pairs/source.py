"""Check Parquet files, cut them into shards, stream their rows.

Each file is read on its own, one window of rows at a time: the dataset API takes the first file's schema for all and
holds far more than one row group. Nothing is memory-mapped (a file cut short under a map kills the process).
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.errors import BadFileError, UsageError, first_line, shown
from stsb_batch.pairs.listing import Listing
from stsb_batch.pairs.probe import has_lengths
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import METADATA_PREFIX, Columns, check_columns

WINDOW_ROWS = 65_536  # rows held at a time, and the span in which batches are ordered by length
READ_BYTES = 1 << 20  # of a column chunk held compressed
WINDOW_BYTES = 256 << 20  # ... fewer where rows are heavy
MESSAGES = 4  # columns that a message names


@dataclass(frozen=True)
class BadFile:
    """A file that is left out, by its path relative to the input's root, and why."""

    relative: Path
    error: BadFileError

    def to_json(self) -> dict[str, str]:
        return {"path": shown(self.relative), "reason": self.error.reason, "message": str(self.error)}


@dataclass(frozen=True)
class SourceFile:
    """One input file as it was when the job was planned. `row_groups` holds the rows of each."""

    path: Path
    relative: Path
    size: int
    mtime_ns: int
    footer_sha256: str
    row_groups: tuple[int, ...]
    schema: pa.Schema
    window_rows: int = WINDOW_ROWS

    @property
    def rows(self) -> int:
        return sum(self.row_groups)

    def identity(self) -> dict:
        """Return what tells this file from any other, or from itself after a change."""
        return {
            "path": str(self.path),
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "footer_sha256": self.footer_sha256,
        }


@dataclass(frozen=True)
class Shard:
    """Consecutive row groups of one file: the unit of commit, resume, retry and distribution."""

    source: SourceFile
    row_groups: tuple[int, ...]
    output: Path
    fingerprint: str

    @property
    def rows(self) -> int:
        return sum(self.source.row_groups[group] for group in self.row_groups)

    @property
    def first_row(self) -> int:
        """The position of its first row in the file."""
        return sum(self.source.row_groups[: self.row_groups[0]]) if self.row_groups else 0


@dataclass(frozen=True)
class Window:
    """Some consecutive rows of a shard; `first_row` is the position of the first one in the shard."""

    rows: pa.RecordBatch
    first_row: int


def inspect_files(listing: Listing, columns: Columns, sandbox: Sandbox) -> tuple[list[SourceFile], list[BadFile]]:
    """Read each file's footer, in the sandbox first, and check its columns; returns the good files and the bad ones."""
    sources, bad, score_taken = [], [], []
    for path, relative in listing.files:
        try:
            if any(unicodedata.category(character) in ("Cc", "Cs") for character in str(relative)):
                raise BadFileError(
                    "UNSUPPORTED", f"{shown(relative)}: UNSUPPORTED, control characters in its name. Rename it."
                )
            sandbox.probe_footer(path, shown(relative))
            source = inspect_file(path, relative)
            problems = check_columns(source.schema, columns)
            if problems:
                raise BadFileError("SCHEMA", "\n".join(f"{shown(relative)}: {problem}." for problem in problems))
        except BadFileError as error:
            bad.append(BadFile(relative, error))
            continue
        score_taken += [
            f"{shown(relative)}: {name}" for name in (columns.score, columns.status) if name in source.schema.names
        ]
        sources.append(source)
    if score_taken:
        more = f" and {len(score_taken) - MESSAGES:,} more" if len(score_taken) > MESSAGES else ""
        raise UsageError(
            f"The input already has the output column ({', '.join(score_taken[:MESSAGES])}{more}). Use --score-column NAME, "
            "or leave files that were scored before out of the input, with a folder or a glob of their own."
        )
    return sources, bad


def probe_rows(source: SourceFile, names: list[str] | None, sandbox: Sandbox) -> SourceFile:
    """Have all rows that a job will read decoded in the sandbox; returns the file with the window its rows allow.

    Raises `BadFileError`. After this no half of a corrupt file can come out, because nothing of it is scored.
    """
    fields = [field for field in source.schema if names is None or field.name in names]
    weight = sandbox.probe_pages(
        source.path, shown(source.relative), names, [field.name for field in fields if has_lengths(field.type)]
    )
    return replace(source, window_rows=max(1, min(WINDOW_ROWS, int(WINDOW_BYTES // max(1.0, weight)))))


def inspect_file(path: Path, relative: Path) -> SourceFile:
    """Read identity, row groups and schema of one Parquet file; raises `BadFileError` when it is none."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            footer = _footer_bytes(file, status.st_size)
            metadata = pq.read_metadata(file)
            schema = metadata.schema.to_arrow_schema()
    except PermissionError as error:
        raise BadFileError(
            "IO", f"{shown(relative)}: IO, no permission to read it. Check its mode.", exit_code=77
        ) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BadFileError(
            "CORRUPT_FILE", f"{shown(relative)}: CORRUPT_FILE, not readable Parquet ({first_line(error)}). Replace it."
        ) from error
    return SourceFile(
        path=path,
        relative=relative,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        footer_sha256=hashlib.sha256(footer).hexdigest(),
        row_groups=tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)),
        schema=_without_own_metadata(schema),
    )


def _footer_bytes(file, size: int) -> bytes:
    """Return a Parquet file's footer: the last 8 bytes hold its length (int32, little endian) and the magic word."""
    tail = 8
    file.seek(max(0, size - tail))
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(0, size - tail - length))
    footer = file.read(min(length, size) + tail)
    file.seek(0)
    return footer


def _without_own_metadata(schema: pa.Schema) -> pa.Schema:
    """Drop footer entries of an earlier scoring, so that scoring scored files does not mix two runs."""
    metadata = {k: v for k, v in (schema.metadata or {}).items() if not k.startswith(METADATA_PREFIX.encode())}
    return schema.with_metadata(metadata or None)


def check_unchanged(source: SourceFile) -> None:
    """Raise `BadFileError` (INPUT_CHANGED) when the file is no longer the one that was planned. Parses nothing."""
    try:
        with source.path.open("rb") as file:
            status = os.fstat(file.fileno())
            footer = hashlib.sha256(_footer_bytes(file, status.st_size)).hexdigest()
    except OSError:
        status, footer = None, None
    if status is None or (status.st_size, status.st_mtime_ns, footer) != (
        source.size,
        source.mtime_ns,
        source.footer_sha256,
    ):
        raise BadFileError(
            "INPUT_CHANGED",
            f"{shown(source.relative)}: INPUT_CHANGED, the file was changed while it was scored; nothing of it was "
            "committed. Run the same command again.",
        )


def cut_row_groups(source: SourceFile, shard_rows: int) -> list[tuple[int, ...]]:
    """Group consecutive row groups into spans of at most `shard_rows` rows (a larger row group stands alone)."""
    spans, span, rows = [], [], 0
    for group, group_rows in enumerate(source.row_groups):
        if span and rows + group_rows > shard_rows:
            spans.append(tuple(span))
            span, rows = [], 0
        span.append(group)
        rows += group_rows
    return [*spans, tuple(span)]


def read_windows(shard: Shard, names: list[str] | None) -> Iterator[Window]:
    """Stream a shard's rows (`names=None`: all columns) in windows; raises `BadFileError` when they cannot all be read."""
    path, relative, first_row = shard.source.path, shard.source.relative, 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=READ_BYTES) as file:
            groups = list(shard.row_groups)
            for rows in file.iter_batches(shard.source.window_rows, row_groups=groups, columns=names):
                yield Window(rows, first_row)
                first_row += rows.num_rows
    except (OSError, pa.ArrowException) as error:
        check_unchanged(shard.source)
        reason = "IO" if isinstance(error, OSError) and error.errno else "CORRUPT_FILE"
        raise BadFileError(
            reason,
            f"{shown(relative)}: {reason}, cannot be read after row {first_row:,} ({first_line(error)}); nothing of it was "
            "committed. Replace the file.",
        ) from error
    if first_row != shard.rows:
        raise BadFileError(
            "CORRUPT_FILE",
            f"{shown(relative)}: CORRUPT_FILE, {first_row:,} rows where its footer promises {shard.rows:,}. Replace it.",
        )
