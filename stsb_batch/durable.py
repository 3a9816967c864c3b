"""Durable file operations: hash, replace, lock. After each call returns, a crash cannot undo or halve it."""

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
    """Move a finished file onto its final name (fsync, rename, fsync the folder). Readers see old or new, never half."""
    try:
        fsync_path(staged)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, final)
        fsync_path(final.parent)
    except OSError as error:
        raise storage_error(error, "moving the finished file into place", final) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that readers see its old or its new content, never a part.

    What processes that died in between have left in the folder goes.
    """
    try:
        sweep_unfinished(path.parent)
        with _held(path.with_name(f".{path.name}.{uuid.uuid4().hex}.inprogress")) as staged:
            staged.write_bytes(content)
            replace_durably(staged, path)
    except OSError as error:
        raise storage_error(error, "writing", path) from error


@contextlib.contextmanager
def _held(staged: Path) -> Iterator[Path]:
    """Make a file and hold a kernel lock on it while it is written: without one it is what a dead process has left."""
    while True:
        with staged.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not staged.exists():
                continue  # swept before it was locked
            try:
                yield staged
            finally:
                staged.unlink(missing_ok=True)
            return


def sweep_unfinished(folder: Path) -> None:
    """Remove the files of a folder that `write_atomically` began and whose writer is dead."""
    for staged in folder.glob(".*.inprogress"):
        with contextlib.suppress(OSError), staged.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            staged.unlink()


@contextlib.contextmanager
def exclusive_lock(path: Path, guarded: str) -> Iterator[None]:
    """Hold a kernel lock (flock) on `path`; it frees itself when its holder dies.

    Raises `BusyError`, naming the holder, when another process has it. `guarded` is what the message calls the thing.
    The lock file is removed at the end, so a lock counts only while its path still leads to the file that was locked.
    """
    with _locked(path, guarded) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


MAX_GONE = 1_000  # times that a lock's folder may vanish while it is made; where none can be made at all that is soon over


def _holder(file: TextIO) -> str:
    """Read who holds a lock; it has the lock a moment before its name stands there."""
    for _ in range(20):
        file.seek(0)
        if holder := file.read().strip():
            return holder
        time.sleep(0.05)
    return "another process"


def _locked(path: Path, guarded: str) -> TextIO:
    gone = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except OSError as error:
            gone += 1
            if isinstance(error, FileNotFoundError) and gone < MAX_GONE:
                continue  # the last holder removed the folder between the two calls
            raise storage_error(error, "taking the lock", path) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
            file.close()
            raise BusyError(f"{guarded} is in use by {holder}. Wait until it has ended and try again.") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # the last holder removed it as we locked it
