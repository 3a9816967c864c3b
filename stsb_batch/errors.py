"""The errors that users see, each with its exit code.

StsbBatchError                      70  a bug, or nothing below fits
├── GateRefused                     13  a candidate did not pass; the champion stays
├── ModelIntegrityError             20  weights, config or tokeniser differ from what was recorded, or are unsafe to load
├── UsageError                      64  the command contradicts itself or the data
├── BadDataError                    65  input cannot be used; nothing of it was committed
│   └── BadFileError                65  one file cannot be used, for one of `FILE_REASONS` (77 where permission is missing)
├── NothingToReadError              66  file, folder, model or version does not exist
├── UnavailableError                69  device, hub or server is not available
│   └── DeviceLostError             69  the device stopped responding; a new process may help
├── CannotCreateError               73  output of another plan exists, or output cannot be created
├── StorageError                    74  I/O error, disk full
├── BusyError                       75  another process uses the same files; try again later
├── PermissionDeniedError           77  permission denied
└── ConfigError                     78  settings are wrong
Codes follow sysexits.h where it has one. 0 is success; 130, 137 and 143 are signals.
"""

import errno
import unicodedata
from pathlib import Path

UNREAD_OUTPUT = 141  # 128 + SIGPIPE
EXIT_CODES = {
    0: "done",
    10: "done, but more rows than --warn-bad-rows have no score",
    11: "done, but files were left out",
    13: "the gate refused the model, the champion stays",
    20: "a model is damaged or not safe to load",
    64: "wrong usage",
    65: "the input cannot be used, nothing of it was committed",
    66: "nothing to read: no such file, folder, model or version",
    69: "a device, the model hub or a server is missing",
    70: "a bug in stsb-batch",
    73: "the output cannot be created, or belongs to another plan",
    74: "an I/O error, or the disk is full",
    75: "the output is in use, or there was no progress: try again later",
    77: "no permission",
    78: "wrong configuration",
    130: "stopped by Ctrl-C; the same command continues",
    143: "stopped by SIGTERM; the same command continues",
    UNREAD_OUTPUT: "nobody read the output",
}

FILE_REASONS = (
    "NOT_PARQUET",
    "CORRUPT_FILE",
    "ENCRYPTED",
    "SCHEMA",
    "UNSUPPORTED",
    "RESOURCE_LIMIT",
    "INPUT_CHANGED",
    "IO",
)


class StsbBatchError(Exception):
    """Base of all errors that are reported to the user in one line."""

    exit_code = 70


class GateRefused(StsbBatchError):
    exit_code = 13


class ModelIntegrityError(StsbBatchError):
    exit_code = 20


class UsageError(StsbBatchError):
    exit_code = 64


class BadDataError(StsbBatchError):
    exit_code = 65


class BadFileError(BadDataError):
    """An input file that cannot be used; `reason` is one of `FILE_REASONS`. The run ends or leaves it out."""

    def __init__(self, reason: str, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code or self.exit_code

    def __reduce__(self) -> tuple:
        return _bad_file_error, (self.reason, str(self), self.exit_code)


def _bad_file_error(reason: str, message: str, exit_code: int) -> BadFileError:
    return BadFileError(reason, message, exit_code=exit_code)


class NothingToReadError(StsbBatchError):
    exit_code = 66


class UnavailableError(StsbBatchError):
    exit_code = 69


class DeviceLostError(UnavailableError):
    pass


class CannotCreateError(StsbBatchError):
    exit_code = 73


class StorageError(StsbBatchError):
    exit_code = 74


class BusyError(StsbBatchError):
    exit_code = 75


class PermissionDeniedError(StsbBatchError):
    exit_code = 77


class ConfigError(StsbBatchError):
    exit_code = 78


def storage_error(error: OSError, doing: str, path: Path | str) -> StsbBatchError:
    """Turn an operating-system error that occurred while `doing` something to `path` into one of our errors."""
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return PermissionDeniedError(
            f"{path}: no permission while {doing}. Check its owner and mode, and those of its folder."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{path}: disk full while {doing}. Free some space and run the same command again.")
    if error.errno == errno.EROFS:
        return CannotCreateError(f"{path}: the file system is read-only. Choose another place with -o.")
    return StorageError(f"{path}: {reason} while {doing}. Check the storage, then run the same command again.")


def escape_control(name: object) -> str:
    """Return a name that is safe to print: control, format and undecodable characters are escaped."""
    return "".join(c if unicodedata.category(c)[0] != "C" else c.encode("unicode_escape").decode() for c in str(name))


def first_line(error: BaseException) -> str:
    """Return the first meaningful line of a library's error, at most 200 characters, else the error's type."""
    lines = (line.strip() for line in str(error).splitlines())
    found = next((line for line in lines if line and not line.startswith("Exception from ")), None)  # of OpenVINO
    return escape_control(found[:200]) if found else type(error).__name__
