"""A child process that opens untrusted files first, so that a decompression bomb or a reader crash costs only that file.

What the child does with a file is in `probe.py`.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stsb_batch.errors import BadFileError, UnavailableError, escape_control
from stsb_batch.pairs.probe import MEMORY, UNSUPPORTED_WORDS

SILENCE_SECONDS = 10.0  # a child that writes nothing for so long is stuck in one file
START_SECONDS = 60.0  # for the first line of a child: importing pyarrow takes seconds on a busy machine
ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
OUT_OF_MEMORY = {-signal.SIGKILL, -signal.SIGABRT}  # from the kernel, and from C++ after a failed allocation


@dataclass(frozen=True)
class _Child:
    """The child process with its pipes."""

    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    replies: IO[bytes]
    errors: IO[bytes]


class Sandbox:
    """Probe files in a child process, which starts with the first file and again after a file that killed it."""

    def __init__(self) -> None:
        self._child: _Child | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def probe_footer(self, path: Path, name: str, columns: list[str] | None = None) -> None:
        """Check a file's footer and the sizes of `columns` (None: all); raises `BadFileError` with the reason.

        `name` is what messages call the file.
        """
        self._ask(path, name, {"pages": False, "columns": columns})

    def probe_pages(self, path: Path, name: str, columns: list[str] | None, texts: list[str]) -> float:
        """Decode every page of `columns` (None: all), of `texts` as dictionaries; raises `BadFileError` with the reason.

        Returns bytes per row in the batch whose rows are largest.
        """
        return float(self._ask(path, name, {"pages": True, "columns": columns, "texts": texts})["bytes_per_row"])

    def _ask(self, path: Path, name: str, request: dict[str, Any]) -> dict[str, Any]:
        child = self._running()
        try:
            child.requests.write((json.dumps(request | {"path": os.fsencode(path).hex()}) + "\n").encode())
            child.requests.flush()
            reply = _reply(child)
        except BrokenPipeError:
            reply = None
        if reply is None:
            code, stderr = child.process.wait(), child.errors.read(2_000)
            self._end()
            reason, message = _cause_of_death(code, stderr)
            raise BadFileError(reason, f"{name}: {reason}, {escape_control(message)}. Replace it.")
        if not reply["ok"]:
            reason, message, refused = reply["reason"], escape_control(reply["message"]), reply.get("permission")
            remedy = "Check its owner and mode, and those of its folder" if refused else reply.get("remedy")
            remedy = remedy or "Replace or remove the file"
            raise BadFileError(reason, f"{name}: {reason}, {message}. {remedy}.", exit_code=77 if refused else None)
        return reply

    def _running(self) -> _Child:
        if self._child is None:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "stsb_batch.pairs.probe"],  # -P: no module from the working directory
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C goes to the parent only; the end of stdin ends the child
                env=os.environ | ENVIRONMENT,
            )
            assert process.stdin and process.stdout and process.stderr, "bug: a pipe is missing"
            self._child = child = _Child(process, process.stdin, process.stdout, process.stderr)
            ready, _, _ = select.select([child.replies], [], [], START_SECONDS)
            if not ready or not child.replies.readline():
                process.kill()
                lines = child.errors.read(2_000).decode(errors="replace").splitlines()
                self._end()
                reason = escape_control(lines[-1]) if lines else f"no answer within {START_SECONDS:.0f} s"
                raise UnavailableError(f"The process that checks input files did not start ({reason}). Try again.")
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.process.kill()
            self._child.process.wait()
            for pipe in (self._child.requests, self._child.replies, self._child.errors):
                pipe.close()
            self._child = None


def _reply(child: _Child) -> dict[str, Any] | None:
    """Return the child's next answer; None when it died. A silent child is killed, as if it had exceeded its memory."""
    while True:
        ready, _, _ = select.select([child.replies], [], [], SILENCE_SECONDS)
        if not ready:
            child.process.kill()
            return None
        line = child.replies.readline()
        if not line.endswith(b"\n"):
            return None
        reply: dict[str, Any] = json.loads(line)
        if "ok" in reply:
            return reply


def _cause_of_death(code: int, stderr: bytes) -> tuple[str, str]:
    """Return the file reason and the message for a file that ended the child: the reader may abort instead of raising."""
    if code in OUT_OF_MEMORY and b"Parquet" not in stderr:
        return "RESOURCE_LIMIT", f"reading it takes more than {MEMORY >> 20:,} MiB or {SILENCE_SECONDS:.0f} s"
    if b"decrypt" in stderr:
        return "ENCRYPTED", "a column is encrypted"
    exception = re.search(rb"what\(\):\s*(.+)", stderr)
    if exception:
        message = exception[1].decode(errors="replace")[:200]
    else:
        message = f"killed by signal {-code}" if code < 0 else "ended without a message"
    reason = "UNSUPPORTED" if re.search(UNSUPPORTED_WORDS, message, re.IGNORECASE) else "CORRUPT_FILE"
    return reason, f"the Parquet reader cannot read it ({message})"
