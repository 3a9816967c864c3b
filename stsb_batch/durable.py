"""Durable file operations: hash, replace, lock. Once a call has returned, a crash cannot undo it or leave a part of it."""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from stsb_batch.errors import BusyError, storage_error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: object) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def fsync_path(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(staged: Path, final: Path) -> None:
    """Move a finished file onto its final name (fsync, rename, fsync the folder). Readers see old or new, never a part.

    Raises `StorageError`, `PermissionDeniedError` or `CannotCreateError` when that fails.
    """
    try:
        fsync_path(staged)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, final)
        fsync_path(final.parent)
    except OSError as error:
        raise storage_error(error, "moving the finished file into place", final) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that readers see its old or its new content, never a part.

    Unfinished files that killed processes left in the folder are removed. Raises as `replace_durably` does.
    """
    try:
        sweep_unfinished(path.parent)
        with _locked_staging(path.with_name(f".{path.name}.{uuid.uuid4().hex}.inprogress")) as staged:
            staged.write_bytes(content)
            replace_durably(staged, path)
    except OSError as error:
        raise storage_error(error, "writing", path) from error


@contextlib.contextmanager
def _locked_staging(staged: Path) -> Iterator[Path]:
    """Create a file and lock it while it is written: an unlocked one was left by a dead process."""
    while True:
        with staged.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not staged.exists():
                continue  # another process removed it before it was locked
            try:
                yield staged
            finally:
                staged.unlink(missing_ok=True)
            return


def sweep_unfinished(folder: Path) -> None:
    """Remove a folder's unfinished files of `write_atomically` whose writer is dead."""
    for staged in folder.glob(".*.inprogress"):
        with contextlib.suppress(OSError), staged.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            staged.unlink()


@contextlib.contextmanager
def exclusive_lock(path: Path, guarded: str) -> Iterator[None]:
    """Hold a kernel lock (flock) on `path`, which ends with the process at the latest.

    Raises `BusyError`, naming the holder, when another process has it; `guarded` is what the message calls the locked
    thing. The lock file is removed at the end, so a lock is valid only while `path` still is the file that was locked.
    """
    with _locked(path, guarded) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


MAX_ATTEMPTS = 1_000  # to create a lock file whose folder other processes keep removing; takes a fraction of a second


def _holder(file: TextIO) -> str:
    """Return who holds a lock; a holder writes its name a moment after it has the lock."""
    for _ in range(20):
        file.seek(0)
        if holder := file.read().strip():
            return holder
        time.sleep(0.05)
    return "another process"


def _locked(path: Path, guarded: str) -> TextIO:
    attempts = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except OSError as error:
            attempts += 1
            if isinstance(error, FileNotFoundError) and attempts < MAX_ATTEMPTS:
                continue  # the last holder removed the folder between the two calls above
            raise storage_error(error, "taking the lock", path) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
            file.close()
            raise BusyError(f"{guarded} is in use by {holder}. Wait until it has ended, then try again.") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # the last holder removed the file before it was locked
