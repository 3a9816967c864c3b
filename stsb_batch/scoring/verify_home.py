"""Check what `STSB_BATCH_HOME` keeps: the reports of all runs, the model versions with their cards, the champion."""

from collections.abc import Iterator
from pathlib import Path

from stsb_batch.durable import file_sha256
from stsb_batch.errors import BadDataError, StsbBatchError, escape_control, storage_error
from stsb_batch.models.decisions import read_decisions
from stsb_batch.models.registry import (
    CARD,
    CARD_FILE,
    DECISIONS,
    MOVES,
    POINTER,
    Version,
    find_version,
    verified,
    version_folders,
)
from stsb_batch.scoring.history import is_checked, is_damaged, reports_folder
from stsb_batch.scoring.verify import EARLIER, Verification
from stsb_batch.sealed import read_sealed
from stsb_batch.settings import Settings


def is_home(folder: Path, settings: Settings) -> bool:
    """Say whether a folder is what `STSB_BATCH_HOME` leads to, or has led to."""
    return folder.is_dir() and (folder.resolve() == settings.home or (folder / "models" / POINTER).is_file())


def verify_home(home: Path) -> Verification:
    """Hold each report, card and pointer against its digest, and each version's files against its card."""
    found = Verification()
    found.problems += [*model_problems(home, found), *report_problems(home, found)]
    return found


def model_problems(home: Path, found: Verification) -> Iterator[str]:
    """Tell what is wrong with the registry; counts files and notes what cannot be checked."""
    yield from _pointer(home, found)
    yield from _versions(home, found)


def report_problems(home: Path, found: Verification) -> Iterator[str]:
    """Tell what is wrong with the history of reports."""
    unchecked = 0
    for path in sorted(reports_folder(home).glob("*.parquet")):
        found.files += 1
        unchecked += not is_checked(path)
        try:
            if is_damaged(path):
                yield f"{escape_control(path)}: not the report that was written, it was changed or damaged. Remove it."
        except OSError as error:
            yield str(storage_error(error, "reading", path))
    if unchecked:
        found.notes.append(f"{unchecked:,} reports cannot be checked ({EARLIER}).")


def _pointer(home: Path, found: Verification) -> Iterator[str]:
    path = home / "models" / POINTER
    try:
        moves, checked = read_sealed(path, MOVES)
        found.files += 1
        if not checked:
            found.notes.append(f"{path}: cannot be checked ({EARLIER}).")
        if moves["stack"]:
            find_version(home, "champion")
    except FileNotFoundError:
        return  # nothing was ever promoted
    except StsbBatchError as error:
        yield str(error)


def _versions(home: Path, found: Verification) -> Iterator[str]:
    for folder in version_folders(home):
        try:
            card, checked = read_sealed(folder / CARD_FILE, CARD)
            version = Version(folder, card)
            _, checked_too = read_decisions(folder)
            found.files += 1 + (folder / DECISIONS).is_file() + len(card["files"])
            for name, sure in ((CARD_FILE, checked), (DECISIONS, checked_too)):
                if not sure:
                    found.notes.append(f"{folder / name}: cannot be checked ({EARLIER}).")
            verified(version)
            for name, sha256 in card.get("beside", {}).items():
                found.files += 1
                if not (folder / name).is_file() or file_sha256(folder / name) != sha256:
                    raise BadDataError(f"{folder / name}: missing, changed or damaged. Restore it from a backup.")
        except OSError as error:
            yield str(storage_error(error, "reading", error.filename or folder))
        except StsbBatchError as error:
            yield str(error)
