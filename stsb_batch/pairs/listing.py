"""Find the Parquet files of an input: a file, a folder or a glob."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stsb_batch.errors import NothingToReadError, UsageError, shown, storage_error


@dataclass(frozen=True)
class Listing:
    """Files as (path, path relative to their root), the names under which one of them was found again, and the root, None
    for a single file."""

    files: list[tuple[Path, Path]]
    doubles: list[Path]
    root: Path | None = None


def find_files(location: str) -> Listing:
    """List the Parquet files at a file, folder or glob, each file once, in order of their names.

    Names that begin with `_` or `.` are skipped, as Spark and Hive do. Raises `NothingToReadError` when nothing is there.
    """
    if "://" in location:
        scheme = shown(location.split("://", maxsplit=1)[0])  # the rest may hold a password
        raise UsageError(f"{scheme}://: only local files are read so far. Copy the data to a local folder first.")
    if not location:
        raise UsageError("The input is an empty string. Name a Parquet file, a folder or a quoted glob.")
    path = Path(location)
    if path.is_dir():
        root, found = path, _below(path)
    elif os.path.lexists(path):
        return Listing([(Path(os.path.realpath(path)), Path(path.name))], [])
    elif glob.has_magic(location):
        root, found = _fixed_part(path), map(Path, glob.iglob(location, recursive=True))
    else:
        raise NothingToReadError(f"{shown(location)}: no such file or folder. Check the path.")
    files, doubles, seen = [], [], set()
    for file in sorted(found):
        relative = file.relative_to(root)
        if file.is_dir() or any(part.startswith(("_", ".")) for part in relative.parts):
            continue
        identity = _inode(file)
        if identity in seen:
            doubles.append(relative)
        else:
            seen.add(identity)
            files.append((Path(os.path.realpath(file)), relative))
    if not files:
        raise NothingToReadError(f"{shown(location)}: holds no .parquet file. Check the path or the pattern.")
    return Listing(files, doubles, root)


def _below(folder: Path, above: frozenset = frozenset()) -> Iterator[Path]:
    """Walk the Parquet files below a folder, linked folders too, but none inside itself (`above`: those it lies in)."""
    inside = above | {_inode(folder)}
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise storage_error(error, "listing the input", folder) from error
    for entry in entries:
        if entry.name.startswith(("_", ".")):
            continue
        if entry.is_dir():
            if _inode(entry) not in inside:
                yield from _below(entry, inside)
        elif entry.name.endswith(".parquet"):
            yield entry


def _inode(file: Path) -> tuple:
    """Tell a file from all others, whatever its name; by its name where it leads nowhere."""
    try:
        status = file.stat()
    except OSError:
        return (str(file),)
    return status.st_dev, status.st_ino


def _fixed_part(pattern: Path) -> Path:
    """Return the folder in front of the first wildcard of a glob."""
    parts = pattern.parts
    wild = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:wild]) if wild else Path()
