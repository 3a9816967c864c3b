"""The registry: immutable model versions with their cards, and the champion's history, in a plain folder.

<home>/models/<name>/<n>/   a standard checkpoint and its card.json
<home>/models/champion.json the stack of champions and the log of every change, in one file so that they change together
<home>/models/.staging/     candidates in progress, each locked by the process that works on it
"""

import contextlib
import datetime as dt
import logging
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stsb_batch.durable import exclusive_lock, file_sha256, fsync_path, write_atomically
from stsb_batch.errors import (
    BusyError,
    GateRefused,
    ModelIntegrityError,
    NothingToReadError,
    UsageError,
    escape_control,
    first_line,
    storage_error,
)
from stsb_batch.models.checkpoint import Checkpoint, file_digests, open_checkpoint
from stsb_batch.models.hub import MODEL_PATTERNS, fetch_snapshot
from stsb_batch.sealed import read_sealed, seal

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
VERSION = re.compile(rf"({NAME.pattern})@(\d+)")
POINTER = "champion.json"
CARD_FILE = "card.json"
DECISIONS = "decisions.json"
SEALED_FILES = (CARD_FILE, DECISIONS)  # each carries its own digest
METRICS = "metrics.parquet"  # the report of the refresh, in the version's folder
CARD = {"name": str, "version": int, "digest": str, "files": {str: str}, "created_at": str}
MOVES = {"stack": [str], "log": [{"model": str, "digest": str, "at": str, "reason": str}]}
POINTER_SECONDS = 10.0  # to wait for another process that changes the champion, which takes about a second
NO_CHAMPION = (
    "No champion model yet. Train one with `stsb-batch refresh --labels labelled.parquet --base-model minilm`, "
    "or try all steps with `stsb-batch demo`."
)


@dataclass(frozen=True)
class Version:
    """One registered model: its folder and its card."""

    path: Path
    card: dict[str, Any]

    @property
    def reference(self) -> str:
        return f"{self.card['name']}@{self.card['version']}"

    @property
    def digest(self) -> str:
        return str(self.card["digest"])

    def metrics(self) -> pl.DataFrame:
        """Read the report of the refresh that made it; raises `ModelIntegrityError` when it is damaged or missing."""
        path = self.path / METRICS
        try:
            if file_sha256(path) != self.card.get("beside", {}).get(METRICS, file_sha256(path)):
                raise ModelIntegrityError(f"{path}: changed after registration. Restore it from a backup.")
            return pl.read_parquet(path, memory_map=False, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ModelIntegrityError(f"{path}: cannot be read ({first_line(error)}). Restore it from a backup.") from None


def now() -> str:
    """Return the current time in UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def version_folders(home: Path) -> list[Path]:
    """List the folders of all versions, sorted by name and number."""
    cards = [path for path in (home / "models").glob(f"*/*/{CARD_FILE}") if path.parent.name.isdigit()]
    return [p.parent for p in sorted(cards, key=lambda p: (p.parent.parent.name, int(p.parent.name)))]


def list_versions(home: Path) -> list[Version]:
    """List all versions, sorted by name and number; raises `ModelIntegrityError` for a damaged card."""
    return [read_version(folder) for folder in version_folders(home)]


def readable_versions(home: Path) -> list[Version]:
    """List the versions whose cards can be read, sorted by name and number; a damaged card is logged and left out."""
    found = []
    for folder in version_folders(home):
        try:
            found.append(read_version(folder))
        except ModelIntegrityError as error:
            log.warning("model version left out: %s", error)
    return found


def read_version(folder: Path) -> Version:
    """Read a version's card; raises `NothingToReadError` when there is none, `ModelIntegrityError` when it is damaged."""
    try:
        return Version(folder, read_sealed(folder / CARD_FILE, CARD)[0])
    except FileNotFoundError:
        raise NothingToReadError(
            f"{folder.parent.name}@{folder.name}: no such model version. List them with `stsb-batch models list`."
        ) from None


def find_version(home: Path, reference: str) -> Version:
    """Find the version that `champion` or `name@n` refers to; raises `NothingToReadError` where there is none.

    `ModelIntegrityError` means that its card is damaged or is not the one that became champion.
    """
    if reference == "champion":
        stack = champions(home)["stack"]
        if not stack:
            raise NothingToReadError(NO_CHAMPION)
        version = find_version(home, stack[-1])
        promoted = [move["digest"] for move in champions(home)["log"] if move["model"] == stack[-1]]
        if promoted[-1:] != [version.digest]:
            raise ModelIntegrityError(
                f"{version.reference}: its card changed after it became champion. Restore the registry folder, or roll "
                "back with `stsb-batch models rollback`."
            )
        return version
    match = VERSION.fullmatch(reference)
    if not match:
        raise UsageError(f"{reference}: not a model version. Write it as name@number, for example sts@1.")
    return read_version(home / "models" / match[1] / match[2])


def check_name(name: str) -> None:
    """Raise `UsageError` when a model cannot have this name."""
    if not NAME.fullmatch(name) or name == POINTER:
        raise UsageError(
            f"{escape_control(name)}: not a model name. Use lower-case letters, digits, dot, dash and underscore."
        )


def register(home: Path, name: str, candidate: Path, card: dict[str, Any]) -> Version:
    """Move a candidate's folder into the registry as the next version of `name`, with its card."""
    check_name(name)
    family = home / "models" / name
    card = card | {
        "name": name,
        "digest": open_checkpoint(candidate).digest,
        "files": file_digests(candidate),
        "created_at": now(),
    }
    others = (file for file in sorted(candidate.iterdir()) if file.is_file() and file.name[0] != ".")
    card["beside"] = {file.name: file_sha256(file) for file in others if file.name not in {*card["files"], *SEALED_FILES}}
    try:
        family.mkdir(parents=True, exist_ok=True)
        while True:
            number = 1 + max((int(path.name) for path in family.iterdir() if path.name.isdigit()), default=0)
            (candidate / CARD_FILE).write_bytes(seal(card | {"version": number}))
            for file in candidate.iterdir():
                fsync_path(file)
            try:
                candidate.rename(family / str(number))
            except OSError:
                if not (family / str(number)).exists():
                    raise
                continue  # another refresh took the number
            fsync_path(family)
            return read_version(family / str(number))
    except OSError as error:
        raise storage_error(error, "registering the model", family) from error


def staging_folder(home: Path, key: str | None = None) -> Path:
    """Create a folder for a candidate in the registry. The same `key` gives the same folder, to resume a killed refresh."""
    folder = home / "models" / ".staging" / (key or uuid.uuid4().hex)
    try:
        folder.mkdir(parents=True, exist_ok=key is not None)
    except OSError as error:
        raise storage_error(error, "creating the staging folder", folder) from error
    return folder


def staging_lock(folder: Path) -> AbstractContextManager[None]:
    """Lock a staging folder while working in it; the lock ends with the process. Raises `BusyError` when it is locked."""
    return exclusive_lock(folder.with_name(f".{folder.name}.lock"), "The refresh from these labels, base model and recipe")


def discard(folder: Path) -> None:
    """Remove a candidate's folder, as far as it exists."""
    shutil.rmtree(folder, ignore_errors=True)


def champions(home: Path) -> dict[str, Any]:
    """Return `stack` (references of the champions, the current one last) and `log` (every change, oldest first)."""
    try:
        return read_sealed(home / "models" / POINTER, MOVES)[0]
    except FileNotFoundError:
        return {"stack": [], "log": []}


def model_name(home: Path, reference: str) -> str:
    """Return the version that `champion` refers to as `name@n`, any other reference unchanged."""
    return str((champions(home)["stack"] or [reference])[-1]) if reference == "champion" else reference


@contextlib.contextmanager
def champion_lock(home: Path) -> Iterator[None]:
    """Lock the champion pointer; waits for another process that changes it, at most `POINTER_SECONDS` (`BusyError`)."""
    began = time.monotonic()
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(exclusive_lock(home / "models" / ".champion.lock", "The champion pointer"))
                break
            except BusyError:
                if time.monotonic() - began > POINTER_SECONDS:
                    raise
                time.sleep(0.05)
        yield


def promote(home: Path, version: Version, reason: str) -> None:
    """Make a version the champion; raises `GateRefused` unless it passed its gate with exactly these files' digest."""
    with champion_lock(home):
        _promote(home, version, reason)


def promote_over_parent(home: Path, version: Version, reason: str) -> bool:
    """Promote a version if the champion is still the one that its gate compared it with; returns whether it was promoted."""
    with champion_lock(home):
        stack = champions(home)["stack"]
        if (stack[-1] if stack else None) != version.card["parent"]:
            return False
        _promote(home, version, reason)
    return True


def _promote(home: Path, version: Version, reason: str) -> None:
    if not version.card.get("gate", {}).get("passed"):
        raise GateRefused(f"{version.reference}: did not pass its gate, so it cannot become champion.")
    verified(version)
    stack = champions(home)["stack"]
    if stack[-1:] != [version.reference]:
        _move(home, [*stack, version.reference], f"promote: {reason}", version)


def rollback(home: Path) -> Version:
    """Make the previous champion champion again; raises `NothingToReadError` when there is none."""
    with champion_lock(home):
        stack = champions(home)["stack"]
        if len(stack) < 2:
            raise NothingToReadError("There is no earlier champion to roll back to." if stack else NO_CHAMPION)
        version = find_version(home, stack[-2])
        verified(version)
        _move(home, stack[:-1], f"rollback from {stack[-1]}", version)
    return version


def _move(home: Path, stack: list[str], reason: str, version: Version) -> None:
    entry = {"model": version.reference, "digest": version.digest, "at": now(), "reason": reason}
    log = [*champions(home)["log"], entry]
    write_atomically(home / "models" / POINTER, seal({"stack": stack, "log": log}))


def verified(version: Version) -> Checkpoint:
    """Open a version's checkpoint; raises `ModelIntegrityError` when a file changed after registration."""
    checkpoint = open_checkpoint(version.path, version.reference)
    if checkpoint.digest != version.digest:
        found = file_digests(version.path)
        changed = [name for name, sha256 in version.card["files"].items() if found.get(name) != sha256]
        raise ModelIntegrityError(
            f"{version.reference}: {', '.join(changed) or 'a file'} changed after registration. "
            "Restore it, or roll back with `stsb-batch models rollback`."
        )
    return checkpoint


def resolve_model(home: Path, reference: str, *, timeout: float = 10.0) -> Checkpoint:
    """Open the checkpoint of a model reference: `champion`, `name@n`, a folder, or a hub id, perhaps with `@revision`.

    `timeout` is for the hub, in seconds. Raises `NothingToReadError`, `ModelIntegrityError`, `UnavailableError`.
    """
    if reference == "champion" or VERSION.fullmatch(reference):
        return verified(find_version(home, reference))
    if Path(reference).is_dir():
        return open_checkpoint(Path(reference).resolve())
    if "/" not in reference or reference.startswith((".", "/", "~")):
        raise NothingToReadError(f"{reference}: no such model. Name champion, name@number, a folder or a hub id.")
    repository, _, revision = reference.partition("@")
    offline = "Without a hub, name a registered model (`stsb-batch models list`) or a folder with --model."
    folder = fetch_snapshot(repository, revision=revision or None, patterns=MODEL_PATTERNS, timeout=timeout, offline=offline)
    return open_checkpoint(folder, reference)
