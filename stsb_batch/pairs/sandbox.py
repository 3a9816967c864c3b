"""A child process that opens untrusted files first, so that a bomb or a crash of the Parquet reader costs one file."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

from stsb_batch.errors import BadFileError, UnavailableError, escape_control
from stsb_batch.pairs.probe import MEMORY, UNSUPPORTED_WORDS

SILENCE_SECONDS = 10.0  # a child that says nothing for so long is stuck in one file
START_SECONDS = 60.0  # ... and one that has not begun is on a machine that can hardly run it
ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
OUT_OF_MEMORY = {-signal.SIGKILL, -signal.SIGABRT}  # the kernel's answer, and that of C++ to a failed allocation


class Sandbox:
    """Probe files in a child process, started when first needed and again after a file that killed it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_) -> None:
        self._end()

    def probe_footer(self, path: Path, name: str, columns: list[str] | None = None) -> None:
        """Gate a file by its footer, by the sizes of `columns` (None: all); raises `BadFileError` with the reason."""
        self._ask(path, name, {"pages": False, "columns": columns})

    def probe_pages(self, path: Path, name: str, columns: list[str] | None, texts: list[str]) -> float:
        """Decode all that a job will read; returns bytes per row where rows are heaviest. Raises `BadFileError`."""
        return self._ask(path, name, {"pages": True, "columns": columns, "texts": texts})["bytes_per_row"]

    def _ask(self, path: Path, name: str, request: dict) -> dict:
        child = self._running()
        try:
            child.stdin.write((json.dumps(request | {"path": os.fsencode(path).hex()}) + "\n").encode())
            child.stdin.flush()
            reply = self._reply()
        except BrokenPipeError:
            reply = None
        if reply is None:
            code, words = child.wait(), child.stderr.read(2_000)
            self._end()
            reason, message = _cause_of_death(code, words)
            raise BadFileError(reason, f"{name}: {reason}, {escape_control(message)}. Replace it.")
        if not reply["ok"]:
            refused = reply.get("permission")
            remedy = "Check its owner and mode, and those of its folder" if refused else reply.get("remedy")
            message = (
                f"{name}: {reply['reason']}, {escape_control(reply['message'])}. {remedy or 'Replace or remove the file'}."
            )
            raise BadFileError(reply["reason"], message, exit_code=77 if refused else None)
        return reply

    def _reply(self) -> dict | None:
        """Return the child's next answer; None when it died. A silent child is killed and counts as over the limit."""
        while True:
            ready, _, _ = select.select([self._child.stdout], [], [], SILENCE_SECONDS)
            if not ready:
                self._child.kill()
                return None
            line = self._child.stdout.readline()
            if not line.endswith(b"\n"):
                return None
            reply = json.loads(line)
            if "ok" in reply:
                return reply

    def _running(self) -> subprocess.Popen:
        if self._child is None:
            # Its own session: Ctrl-C is for the parent, and the end of stdin ends the child.
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "stsb_batch.pairs.probe"],  # -P: no module from the present folder
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env=os.environ | ENVIRONMENT,
            )
            ready, _, _ = select.select([self._child.stdout], [], [], START_SECONDS)
            if not ready or not self._child.stdout.readline():
                self._child.kill()
                words = self._child.stderr.read(2_000).decode(errors="replace").splitlines()
                self._end()
                raise UnavailableError(
                    f"The process that opens files first did not start ({escape_control(' '.join(words[-1:]))})."
                )
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child.stdin.close()
            self._child.stdout.close()
            self._child.stderr.close()
            self._child = None


def _cause_of_death(code: int, words: bytes) -> tuple[str, str]:
    """Return the file reason and what to say of a file that ended the child: the reader may abort where it should raise."""
    said = re.search(rb"what\(\):\s*(.+)", words)
    message = said[1].decode(errors="replace")[:200] if said else f"it ended with {code}"
    if code in OUT_OF_MEMORY and b"Parquet" not in words:
        return "RESOURCE_LIMIT", f"reading it takes more than {MEMORY >> 20:,} MiB or {SILENCE_SECONDS:.0f} s"
    if b"decrypt" in words:
        return "ENCRYPTED", "a column is encrypted"
    reason = "UNSUPPORTED" if re.search(UNSUPPORTED_WORDS, message, re.IGNORECASE) else "CORRUPT_FILE"
    return reason, f"the Parquet reader cannot read it ({message})"
