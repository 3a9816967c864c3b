"""Find Parquet files, check them, cut them into shards, stream their rows.

Each file is read on its own, one window of rows at a time: the dataset API takes the first file's schema for all and
holds far more than one row group. Nothing is memory-mapped (a file cut short under a map kills the process).
"""

import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.errors import BadDataError, NothingToReadError, UsageError
from stsb_batch.pairs.schema import METADATA_PREFIX, Columns, check_columns

WINDOW_ROWS = 65_536  # rows held at a time, and the span in which batches are ordered by length


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


@dataclass(frozen=True)
class Window:
    """Some consecutive rows of a shard; `first_row` is the position of the first one in the shard."""

    rows: pa.RecordBatch
    first_row: int


def find_files(location: str) -> list[tuple[Path, Path]]:
    """List the Parquet files at a file, folder or glob as (path, path relative to its root), each file once, in order.

    Names that begin with `_` or `.` are skipped, as Spark and Hive do. Raises `NothingToReadError` when nothing is there.
    """
    if "://" in location:
        raise UsageError(f"{location}: only local files are read so far. Copy the data to a local folder first.")
    path = Path(location)
    if path.is_file():
        return [(path.resolve(), Path(path.name))]
    if path.is_dir():
        root, found = path, path.rglob("*.parquet")
    elif glob.has_magic(location):
        root, found = _fixed_part(path), map(Path, glob.iglob(location, recursive=True))
    else:
        raise NothingToReadError(f"{location}: no such file or folder. Check the path.")
    files, seen = [], set()
    for file in sorted(found):
        relative = file.relative_to(root)
        if not file.is_file() or any(part.startswith(("_", ".")) for part in relative.parts):
            continue
        status = file.stat()
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            files.append((file.resolve(), relative))
    if not files:
        raise NothingToReadError(f"{location}: holds no .parquet file. Check the path or the pattern.")
    return files


def _fixed_part(pattern: Path) -> Path:
    """Return the folder in front of the first wildcard of a glob."""
    parts = pattern.parts
    wild = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:wild]) if wild else Path()


def inspect_files(files: list[tuple[Path, Path]], columns: Columns) -> list[SourceFile]:
    """Read each file's footer and check its columns; raises one `BadDataError` that lists every bad file."""
    sources, problems, score_taken = [], [], []
    for path, relative in files:
        try:
            source = inspect_file(path, relative)
        except BadDataError as error:
            problems.append(str(error))
            continue
        problems += [f"{path.name}: {problem}." for problem in check_columns(source.schema, columns)]
        score_taken += [f"{path.name}: {name}" for name in (columns.score, columns.status) if name in source.schema.names]
        sources.append(source)
    if problems:
        raise BadDataError("\n".join(problems))
    if score_taken:
        raise UsageError(f"The input already has the output column ({', '.join(score_taken)}). Use --score-column NAME.")
    return sources


def inspect_file(path: Path, relative: Path) -> SourceFile:
    """Read identity, row groups and schema of one Parquet file; raises `BadDataError` when it is none."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            footer = _footer_bytes(file, status.st_size)
            metadata = pq.read_metadata(file)
    except PermissionError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise BadDataError(
            f"{path.name}: not a readable Parquet file ({_first_line(error)}). Replace or remove it."
        ) from error
    return SourceFile(
        path=path,
        relative=relative,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        footer_sha256=hashlib.sha256(footer).hexdigest(),
        row_groups=tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)),
        schema=_without_own_metadata(metadata.schema.to_arrow_schema()),
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
    """Raise `BadDataError` (INPUT_CHANGED) when the file is no longer the one that was planned."""
    try:
        now = inspect_file(source.path, source.relative)
    except (OSError, BadDataError):
        now = None
    if now is None or now.identity() != source.identity():
        raise BadDataError(
            f"{source.path.name}: INPUT_CHANGED, the file was changed while it was scored; nothing of it was committed. "
            "Run the same command again."
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


def read_windows(shard: Shard, names: list[str] | None, *, window_rows: int = WINDOW_ROWS) -> Iterator[Window]:
    """Stream a shard's rows (`names=None`: all columns) in windows; raises `BadDataError` when they cannot all be read."""
    path, first_row = shard.source.path, 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            for rows in file.iter_batches(window_rows, row_groups=list(shard.row_groups), columns=names):
                yield Window(rows, first_row)
                first_row += rows.num_rows
    except (OSError, pa.ArrowException) as error:
        raise BadDataError(
            f"{path.name}: cannot be read after row {first_row:,} ({_first_line(error)}); nothing of it was committed. "
            "Replace the file."
        ) from error
    if first_row != shard.rows:
        raise BadDataError(
            f"{path.name}: holds {first_row:,} rows where its footer promises {shard.rows:,}. Replace the file."
        )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
