"""Find the Parquet files of an input: a file, a folder or a glob. What is Parquet is decided by `kinds.py`."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stsb_batch.errors import NothingToReadError, UsageError, escape_control, storage_error
from stsb_batch.pairs.convert import conversion
from stsb_batch.pairs.kinds import is_parquet, refuse_tables

MAX_FILES_SHOWN = 5  # in a message
Identity = tuple[int, int] | tuple[str]


@dataclass(frozen=True)
class Listing:
    """The Parquet files of an input, each as (path, path relative to `root`).

    `duplicates` are further names of files that are listed already, `skipped` files that are not Parquet, both relative to
    `root`. `root` is the folder that was searched, None for a single file.
    """

    files: list[tuple[Path, Path]]
    duplicates: list[Path]
    root: Path | None = None
    skipped: list[Path] = field(default_factory=list)


def find_files(location: str) -> Listing:
    """List the Parquet files at a file, folder or glob, each file once, sorted by name.

    Names that begin with `.`, or with `_` and contain no `=`, are ignored, as Spark does. Raises `NothingToReadError` when
    there is no such file, `BadDataError` when the files belong to a table format (some of their rows may be deleted), and
    `UsageError` for an address that is not local.
    """
    if "://" in location:
        scheme = escape_control(location.split("://", maxsplit=1)[0])  # the rest may hold a password
        raise UsageError(f"{scheme}://: only local files can be read. Copy the data to a local folder first.")
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
    files, duplicates, skipped, seen = [], [], [], set()
    for file in sorted(set(found)):
        relative = file.relative_to(root)
        if not is_parquet(file):
            skipped.append(relative)
        elif (identity := _inode(file)) in seen:
            duplicates.append(relative)
        else:
            seen.add(identity)
            files.append((Path(os.path.realpath(file)), relative))
    refuse_tables([file for file, _ in files])
    if not files:
        others = f" ({describe_skipped(skipped)})" if skipped else ""
        remedy = next(filter(None, (conversion(root / name) for name in skipped)), "Check the path or the pattern")
        raise NothingToReadError(f"{escape_control(location)}: contains no Parquet file{others}. {remedy}.")
    return Listing(files, duplicates, root, skipped)


def describe_skipped(files: list[Path]) -> str:
    """Say in a clause how many files were skipped, and name the first of them."""
    names = ", ".join(map(escape_control, files[:MAX_FILES_SHOWN])) + (", ..." if len(files) > MAX_FILES_SHOWN else "")
    were = "1 file is not Parquet and was" if len(files) == 1 else f"{len(files):,} files are not Parquet and were"
    return f"{were} skipped: {names}"


def _matches(pattern: str, root: Path) -> Iterator[Path]:
    """Yield the files that a glob matches, and all files below the folders that it matches."""
    for match in map(Path, glob.iglob(pattern, recursive=True)):
        if any(map(_is_hidden, match.relative_to(root).parts)):
            continue
        if match.is_dir():
            yield from _below(match)
        else:
            yield match


def _below(folder: Path, above: frozenset[Identity] = frozenset()) -> Iterator[Path]:
    """Yield the files below a folder, linked folders included. A link to one of the folders `above` it is not followed."""
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
    """Say whether Parquet readers ignore a name; `_load_id=17` is a partition, which they read."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _inode(file: Path) -> Identity:
    """Return what identifies a file under any of its names: device and inode, or the name of a broken link."""
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
