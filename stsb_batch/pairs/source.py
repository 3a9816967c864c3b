"""Check Parquet files, cut them into shards, stream their rows.

Each file is read on its own, one window of rows at a time: pyarrow's dataset API applies the first file's schema to all
and holds far more than one row group. Nothing is memory-mapped: a mapped file that is truncated kills the process.
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.errors import BadFileError, UsageError, escape_control, first_line
from stsb_batch.pairs.listing import Listing
from stsb_batch.pairs.probe import has_lengths
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import Columns, check_columns

WINDOW_ROWS = 65_536  # rows held at a time; batches are sorted by length within a window
WINDOW_BYTES = 256 << 20  # a window has fewer rows where they would take more than this
READ_BYTES = 1 << 20  # of a compressed column chunk held at a time
MAX_COLUMNS_SHOWN = 4  # in a message


@dataclass(frozen=True)
class BadFile:
    """A file that is left out, with its path relative to the input's root, and the reason."""

    relative: Path
    error: BadFileError

    def to_json(self) -> dict[str, str]:
        return {"path": escape_control(self.relative), "reason": self.error.reason, "message": str(self.error)}


@dataclass(frozen=True)
class Stamp:
    """A file's size, times (ns) and inode. While they are unchanged, the content counts as unchanged and is not read."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True)
class SourceFile:
    """One input file as it was when the job was planned: the rows of each row group, and the SHA-256 of its content."""

    path: Path
    relative: Path
    stamp: Stamp
    row_groups: tuple[int, ...]
    schema: pa.Schema
    sha256: str = ""
    window_rows: int = WINDOW_ROWS

    @property
    def rows(self) -> int:
        return sum(self.row_groups)

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes this file from any other, and from itself after a change: path, size and digest."""
        return {"path": str(self.path), "size": self.stamp.size, "sha256": self.sha256}

    def record(self) -> dict[str, Any]:
        """Return the identity as output files record it: with the stamp, which saves reading the content again."""
        return self.identity() | asdict(self.stamp)


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
        """The position of the shard's first row in the file."""
        return sum(self.source.row_groups[: self.row_groups[0]]) if self.row_groups else 0


@dataclass(frozen=True)
class Window:
    """Consecutive rows of a shard; `first_row` is the position of the first of them in the shard."""

    rows: pa.RecordBatch
    first_row: int


def inspect_files(listing: Listing, columns: Columns, sandbox: Sandbox) -> tuple[list[SourceFile], list[BadFile]]:
    """Check each file's footer in the sandbox, then its columns; returns the good files and the bad ones.

    Raises `UsageError` where an input file already has the output column.
    """
    sources, bad, score_taken = [], [], []
    for path, relative in listing.files:
        try:
            if any(unicodedata.category(character) in ("Cc", "Cs") for character in str(relative)):
                raise BadFileError(
                    "UNSUPPORTED", f"{escape_control(relative)}: UNSUPPORTED, its name has control characters. Rename it."
                )
            sandbox.probe_footer(path, escape_control(relative))
            source = inspect_file(path, relative)
            problems = check_columns(source.schema, columns)
            if problems:
                raise BadFileError("SCHEMA", "\n".join(f"{escape_control(relative)}: {problem}." for problem in problems))
        except BadFileError as error:
            bad.append(BadFile(relative, error))
            continue
        score_taken += [
            f"{escape_control(relative)}: {name}"
            for name in source.schema.names
            if name.lower() in (columns.score.lower(), columns.status.lower())  # most readers ignore case
        ]
        sources.append(source)
    if score_taken:
        more = f" and {len(score_taken) - MAX_COLUMNS_SHOWN:,} more" if len(score_taken) > MAX_COLUMNS_SHOWN else ""
        raise UsageError(
            f"The input already has the output column ({', '.join(score_taken[:MAX_COLUMNS_SHOWN])}{more}). "
            "Use --score-column NAME, or exclude the files that were scored before from the input folder or glob."
        )
    return sources, bad


def probe_rows(source: SourceFile, names: list[str] | None, sandbox: Sandbox) -> SourceFile:
    """Decode in the sandbox all columns `names` (None: all) that a job will read; returns the file with its window size.

    Raises `BadFileError` where any page is damaged, so that a corrupt file is never scored in part.
    """
    fields = [field for field in source.schema if names is None or field.name in names]
    weight = sandbox.probe_pages(
        source.path, escape_control(source.relative), names, [field.name for field in fields if has_lengths(field.type)]
    )
    return replace(source, window_rows=max(1, min(WINDOW_ROWS, int(WINDOW_BYTES // max(1.0, weight)))))


def inspect_file(path: Path, relative: Path) -> SourceFile:
    """Read stamp, row groups and schema of one Parquet file; raises `BadFileError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            stamp = _stamp(file)
            metadata = pq.read_metadata(file)
            schema = metadata.schema.to_arrow_schema()
    except PermissionError as error:
        raise BadFileError(
            "IO", f"{escape_control(relative)}: IO, no permission to read it. Check its mode.", exit_code=77
        ) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BadFileError(
            "CORRUPT_FILE",
            f"{escape_control(relative)}: CORRUPT_FILE, not readable Parquet ({first_line(error)}). Replace it.",
        ) from error
    return SourceFile(
        path=path,
        relative=relative,
        stamp=stamp,
        row_groups=tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)),
        schema=schema,
    )


def open_file(source: SourceFile) -> BinaryIO:
    """Open a planned file for copying; raises `BadFileError` when that fails."""
    try:
        return source.path.open("rb")
    except OSError as error:
        check_unchanged(source)
        raise BadFileError(
            "IO", f"{escape_control(source.relative)}: IO, {error.strerror}. Check the file and its mode."
        ) from error


def _stamp(file: BinaryIO) -> Stamp:
    status = os.fstat(file.fileno())
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def with_digest(source: SourceFile, recorded: dict[str, Any]) -> SourceFile:
    """Return the file with the SHA-256 of its content, taken from `recorded` while the stamp is the same, else computed.

    Raises `BadFileError` (INPUT_CHANGED) when it is no longer the file that was inspected.
    """
    if recorded.get("sha256") and recorded.get("path") == str(source.path) and _has_stamp(recorded, source.stamp):
        return replace(source, sha256=recorded["sha256"])
    digest = _digest(source.path)
    if digest is None:
        raise _changed(source)
    return replace(source, sha256=digest)


def is_recorded(path: Path, recorded: dict[str, Any]) -> bool:
    """Say whether a file is unchanged since `recorded` was written into an output: by its stamp, else by its digest."""
    try:
        with path.open("rb") as file:
            stamp = _stamp(file)
    except OSError:
        return False
    if "sha256" not in recorded:  # written by version 0.1.0, which compared size and time
        return (stamp.size, stamp.mtime_ns) == (recorded.get("size"), recorded.get("mtime_ns"))
    return _has_stamp(recorded, stamp) or _digest(path) == recorded["sha256"]


def _has_stamp(recorded: dict[str, Any], stamp: Stamp) -> bool:
    return {**recorded, **asdict(stamp)} == recorded


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of a file's content; None when it cannot be read or changes meanwhile."""
    try:
        with path.open("rb") as file:
            before = _stamp(file)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return digest if _stamp(file) == before else None
    except OSError:
        return None


def check_unchanged(source: SourceFile) -> None:
    """Raise `BadFileError` (INPUT_CHANGED) when the file's content is no longer what was planned. Parses nothing."""
    if not is_recorded(source.path, source.record()):
        raise _changed(source)


def _changed(source: SourceFile) -> BadFileError:
    return BadFileError(
        "INPUT_CHANGED",
        f"{escape_control(source.relative)}: INPUT_CHANGED, the file was changed while it was scored; nothing of it was "
        "committed. Run the same command again.",
    )


def cut_row_groups(source: SourceFile, shard_rows: int) -> list[tuple[int, ...]]:
    """Group consecutive row groups into spans of at most `shard_rows` rows; a larger row group is a span of its own."""
    spans: list[tuple[int, ...]] = []
    span: list[int] = []
    rows = 0
    for group, group_rows in enumerate(source.row_groups):
        if span and rows + group_rows > shard_rows:
            spans.append(tuple(span))
            span, rows = [], 0
        span.append(group)
        rows += group_rows
    return [*spans, tuple(span)]


def read_windows(shard: Shard, names: list[str] | None, groups: tuple[int, ...] | None = None) -> Iterator[Window]:
    """Yield a shard's rows in windows: columns `names` (None: all) of the row groups `groups` (None: all of the shard).

    Raises `BadFileError` when not all rows can be read.
    """
    wanted = list(shard.row_groups if groups is None else groups)
    path, relative, first_row = shard.source.path, shard.source.relative, 0
    rows_expected = sum(shard.source.row_groups[group] for group in wanted)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=READ_BYTES) as file:
            for rows in file.iter_batches(shard.source.window_rows, row_groups=wanted, columns=names):
                yield Window(rows, first_row)
                first_row += rows.num_rows
    except (OSError, pa.ArrowException) as error:
        check_unchanged(shard.source)
        reason = "IO" if isinstance(error, OSError) and error.errno else "CORRUPT_FILE"
        raise BadFileError(
            reason,
            f"{escape_control(relative)}: {reason}, cannot be read after row {first_row:,} ({first_line(error)}); "
            "nothing of it was committed. Replace the file.",
        ) from error
    if first_row != rows_expected:
        raise BadFileError(
            "CORRUPT_FILE",
            f"{escape_control(relative)}: CORRUPT_FILE, {first_row:,} rows, but its footer says "
            f"{rows_expected:,}. Replace it.",
        )
