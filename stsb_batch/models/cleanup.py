"""What the registry no longer needs: old versions that never counted, and what dead refreshes have left."""

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
    staging_folder,
    staging_lock,
    whole_versions,
)

DEAD_SECONDS = 24 * 3600.0  # a killed refresh can be gone on with for a day


@dataclass(frozen=True)
class Garbage:
    """Versions that may go, and how much they take."""

    versions: list[Version]
    size_bytes: int


def removable_versions(home: Path, keep: int) -> list[Version]:
    """List the versions that may go: not among the newest `keep` of their name (at least one), and never champion."""
    versions = whole_versions(home)
    moves = champions(home)
    spared = {move["model"] for move in moves["log"]} | set(moves["stack"])
    for name in {version.card["name"] for version in versions}:
        family = [version.reference for version in versions if version.card["name"] == name]
        spared |= set(family[-max(1, keep) :])  # the newest stays, so that no number is given twice
    return [version for version in versions if version.reference not in spared]


def collect_garbage(home: Path, *, keep: int, remove: bool) -> Garbage:
    """List the versions that may go and what they take, and with `remove` remove them, each out of sight at once.

    No promotion can come between. What dead refreshes have left goes with them.
    """
    with champion_lock(home):
        versions = removable_versions(home, keep)
        taken = [folder_bytes(version.path) for version in versions]
        for version in versions if remove else ():
            grave = staging_folder(home)
            try:
                version.path.rename(grave / "removed")
            except OSError as error:
                raise storage_error(error, "removing a model version", version.path) from error
            discard(grave)
    if remove:
        sweep_staging(home)
        for folder in {home / "models", home / "reports", *(version.path for version in whole_versions(home))}:
            sweep_unfinished(folder)
    return Garbage(versions, sum(taken))


def sweep_staging(home: Path, *, older_than: float = DEAD_SECONDS) -> list[Path]:
    """Remove the staging folders that no process works in and that are older than `older_than` seconds."""
    swept = []
    for folder in (home / "models" / ".staging").glob("*"):
        try:
            if not folder.is_dir() or time.time() - folder.stat().st_mtime < older_than:
                continue
            with staging_lock(folder):
                discard(folder)
        except (BusyError, FileNotFoundError):
            continue  # somebody works in it, or removed it first
        swept.append(folder)
    return swept


def folder_bytes(folder: Path) -> int:
    """Return how much the files of a folder take."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
