"""Remove what the registry no longer needs: old versions that never were champion, and folders of killed refreshes."""

import time
from dataclasses import dataclass
from pathlib import Path

from stsb_batch.durable import sweep_unfinished
from stsb_batch.errors import BusyError, storage_error
from stsb_batch.models.registry import (
    Version,
    champion_lock,
    champions,
    discard,
    readable_versions,
    staging_folder,
    staging_lock,
)

DEAD_SECONDS = 24 * 3600.0  # a killed refresh can be resumed for a day


@dataclass(frozen=True)
class Garbage:
    """Versions that may be removed, and their size."""

    versions: list[Version]
    size_bytes: int


def removable_versions(home: Path, keep: int) -> list[Version]:
    """List the versions that may be removed: never champion, and not among the newest `keep` (at least 1) of their name."""
    versions = readable_versions(home)
    moves = champions(home)
    kept = {move["model"] for move in moves["log"]} | set(moves["stack"])
    for name in {version.card["name"] for version in versions}:
        family = [version.reference for version in versions if version.card["name"] == name]
        kept |= set(family[-max(1, keep) :])  # the newest stays, so that no number is used twice
    return [version for version in versions if version.reference not in kept]


def collect_garbage(home: Path, *, keep: int, remove: bool) -> Garbage:
    """List the versions that may be removed and their size; with `remove`, remove them, each by one rename.

    The champion cannot change meanwhile. With `remove`, folders of killed refreshes and unfinished files are removed too.
    Raises `StorageError` or `PermissionDeniedError` when a version cannot be removed.
    """
    with champion_lock(home):
        versions = removable_versions(home, keep)
        sizes = [folder_bytes(version.path) for version in versions]
        for version in versions if remove else ():
            folder = staging_folder(home)
            try:
                version.path.rename(folder / "removed")
            except OSError as error:
                raise storage_error(error, "removing a model version", version.path) from error
            discard(folder)
    if remove:
        sweep_staging(home)
        for folder in {home / "models", home / "reports", *(version.path for version in readable_versions(home))}:
            sweep_unfinished(folder)
    return Garbage(versions, sum(sizes))


def sweep_staging(home: Path, *, older_than: float = DEAD_SECONDS) -> list[Path]:
    """Remove staging folders older than `older_than` seconds that no process has locked; returns them."""
    swept = []
    for folder in (home / "models" / ".staging").glob("*"):
        try:
            if not folder.is_dir() or time.time() - folder.stat().st_mtime < older_than:
                continue
            with staging_lock(folder):
                discard(folder)
        except (BusyError, FileNotFoundError):
            continue  # another process works in it, or removed it first
        swept.append(folder)
    return swept


def folder_bytes(folder: Path) -> int:
    """Return the size of a folder's files together, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
