"""Find the Parquet files of an input: a file, a folder or a glob. The first and last bytes say what a file is."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stsb_batch.errors import NothingToReadError, UsageError, escape_control, storage_error
from stsb_batch.pairs.convert import conversion
from stsb_batch.pairs.kinds import is_parquet, refuse_tables

NAMED = 5  # files that a message names


@dataclass(frozen=True)
class Listing:
    """Files as (path, path relative to their root), the names under which one of them was found again, and the root, None
    for a single file. `passed_over` are files beside them that are no Parquet."""

    files: list[tuple[Path, Path]]
    doubles: list[Path]
    root: Path | None = None
    passed_over: list[Path] = field(default_factory=list)


def find_files(location: str) -> Listing:
    """List the Parquet files at a file, folder or glob, each file once, in order of their names.

    Names that begin with `.`, or with `_` and hold no `=`, are skipped, as Spark does. Raises `NothingToReadError` when
    nothing is there, and `BadDataError` for the files of a table, some of whose rows may be deleted ones.
    """
    if "://" in location:
        scheme = escape_control(location.split("://", maxsplit=1)[0])  # the rest may hold a password
        raise UsageError(f"{scheme}://: only local files are read so far. Copy the data to a local folder first.")
    if not location:
        raise UsageError("The input is an empty string. Name a Parquet file, a folder or a quoted glob.")
    path = Path(location)
    if path.is_dir():
        root, found = path, _below(path)
    elif os.path.lexists(path):
        refuse_tables([path])
        return Listing([(Path(os.path.realpath(path)), Path(path.name))], [])
    elif glob.has_magic(location):
        root, found = _fixed_part(path), _matches(location, _fixed_part(path))
    else:
        raise NothingToReadError(f"{escape_control(location)}: no such file or folder. Check the path.")
    files, doubles, passed_over, seen = [], [], [], set()
    for file in sorted(set(found)):
        relative = file.relative_to(root)
        if not is_parquet(file):
            passed_over.append(relative)
        elif (identity := _inode(file)) in seen:
            doubles.append(relative)
        else:
            seen.add(identity)
            files.append((Path(os.path.realpath(file)), relative))
    refuse_tables([file for file, _ in files])
    if not files:
        beside = f" ({describe_passed_over(passed_over)})" if passed_over else ""
        remedy = next(filter(None, (conversion(root / name) for name in passed_over)), "Check the path or the pattern")
        raise NothingToReadError(f"{escape_control(location)}: holds no Parquet file{beside}. {remedy}.")
    return Listing(files, doubles, root, passed_over)


def describe_passed_over(files: list[Path]) -> str:
    """Say how many files were passed over, and which."""
    names = ", ".join(escape_control(name) for name in files[:NAMED]) + (", ..." if len(files) > NAMED else "")
    were = "1 file is not Parquet and was" if len(files) == 1 else f"{len(files):,} files are not Parquet and were"
    return f"{were} passed over: {names}"


def _matches(pattern: str, root: Path) -> Iterator[Path]:
    """Walk what a glob matches, and all below the folders among it."""
    for match in map(Path, glob.iglob(pattern, recursive=True)):
        if any(map(_is_hidden, match.relative_to(root).parts)):
            continue
        if match.is_dir():
            yield from _below(match)
        else:
            yield match


def _below(folder: Path, above: frozenset = frozenset()) -> Iterator[Path]:
    """Walk the files below a folder, linked folders too, but none inside itself (`above`: those it lies in)."""
    inside = above | {_inode(folder)}
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise storage_error(error, "listing the input", folder) from error
    for entry in entries:
        if _is_hidden(entry.name):
            continue
        if not entry.is_dir():
            yield entry
        elif _inode(entry) not in inside:
            yield from _below(entry, inside)


def _is_hidden(name: str) -> bool:
    """Say whether readers skip a name; `_load_id=17` is a partition."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


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
