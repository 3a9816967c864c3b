"""Run the command line again and again in forked processes, and make it fail: at a named step, with an errno, at a moment.

A step is one call that changes a file system: open, write, close, fsync, rename, unlink, mkdir, rmdir, named after what
it is done to (`replace:shard`, `fsync:folder`) and counted from 1; the product itself knows nothing of this. Requests and
replies are lines of JSON on stdin and stdout. The engine is `FakeEngine`, so that a run takes a fraction of a second, unless
the request says `real`.
"""

import contextlib
import ctypes
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tokeniser's threads do not survive a fork

# What every run needs is imported once, before the forks.
import pyarrow.parquet  # noqa: F401
import scipy.stats  # noqa: F401
import transformers

transformers.AutoTokenizer, transformers.AutoModelForSequenceClassification  # noqa: B018 - lazy imports, done now

from stsb_batch.cli.main import main  # noqa: E402
from stsb_batch.inference import scorer  # noqa: E402
from stsb_batch.pairs import sink  # noqa: E402
from stsb_batch.scoring import shard  # noqa: E402
from tests.fakes import FakeEngine  # noqa: E402

PARTS = {
    "_SUCCESS": "success",
    "_manifest": "manifest",
    "report": "report",
    "lock": "lock",
    "quarantine": "quarantine",
    ".parquet": "shard",
}
CAPABILITIES = (1, 2)  # DAC_OVERRIDE and DAC_READ_SEARCH: what lets root ignore the modes of files


class Steps:
    """Count the steps of this process, note their names, and fail at the one that is asked for."""

    def __init__(self, fault: dict | None, notes: int) -> None:
        self._fault = fault or {"step": 0}
        self._notes = notes
        self._counts = Counter()

    def reach(self, name: str) -> None:
        self._counts.update(("", name))
        os.write(self._notes, f"{name}\n".encode())
        wanted = self._fault.get("name", "")  # the n-th step of all, or the n-th of a name
        if wanted in ("", name) and self._counts[wanted] == self._fault["step"]:
            if self._fault["kind"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self._fault["errno"], os.strerror(self._fault["errno"]))


def label(target: object) -> str:
    """Name what a path or descriptor leads to by its part in a run."""
    path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
    if "reports" in (path.name, path.parent.name):
        return "history"
    for part, kind in PARTS.items():
        if part in path.name:
            return kind
    return "folder"


class FaultyFile:
    """A file open for writing whose writes and close are steps."""

    def __init__(self, file, name: str, steps: Steps) -> None:
        self._file, self._name, self._steps = file, name, steps

    def __getattr__(self, attribute: str):
        return getattr(self._file, attribute)

    def __enter__(self) -> "FaultyFile":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def write(self, data) -> int:
        self._steps.reach(f"write:{self._name}")
        return self._file.write(data)

    def close(self) -> None:
        if not self._file.closed:
            try:
                self._steps.reach(f"close:{self._name}")
            finally:
                self._file.close()


def install(steps: Steps) -> None:
    """Put the steps in front of this process's file operations."""

    def stepped(name: str, real):
        def call(target, *args, **kwargs):
            steps.reach(f"{name}:{label(args[0] if name in ('replace', 'rename') else target)}")
            return real(target, *args, **kwargs)

        return call

    for name in ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir"):
        setattr(os, name, stepped(name, getattr(os, name)))
    real_open = io.open

    def open_(path, mode="r", *args, **kwargs):
        if isinstance(path, int) or not set(mode) & set("wxa+"):
            return real_open(path, mode, *args, **kwargs)
        steps.reach(f"open:{label(path)}")
        return FaultyFile(real_open(path, mode, *args, **kwargs), label(path), steps)

    io.open = open_


def write_straight_to_the_final_name() -> None:
    """Break the commit protocol on purpose, to see that the checks notice."""

    @contextlib.contextmanager
    def straight(target, name):
        final = target.path(name)
        final.parent.mkdir(parents=True, exist_ok=True)
        final.unlink(missing_ok=True)
        yield final

    sink.staged_file = straight
    sink.commit = lambda _, final: sink.committed(final)


def forget_privileges() -> None:
    """Let this process, and what it starts, be held to the modes of files even when it is root's."""
    libc = ctypes.CDLL(None)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    for capability in CAPABILITIES:
        libc.prctl(24, capability, 0, 0, 0)
    libc.capget(header, data)
    for index in range(3):
        data[index] &= ~sum(1 << capability for capability in CAPABILITIES)
    libc.capset(header, data)


class SickEngine(FakeEngine):
    """An engine that waits for a file to appear (`gate`), or stops working after some batches: `hang`, `lost`."""

    def __init__(self, gate: str | None = None, sickness: str | None = None, batches: int = 0) -> None:
        super().__init__()
        self._gate, self._sickness, self._batches = gate, sickness, batches

    def score(self, batch):
        while self._gate and not Path(self._gate).exists():
            time.sleep(0.01)
        if self._sickness and len(self.shapes) >= self._batches:
            if self._sickness == "lost":
                raise RuntimeError("CUDA error: unspecified launch failure")
            time.sleep(60)
        return super().score(batch)


def child(request: dict, notes: int) -> None:
    """Be one run of the command line; never returns."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{request['log']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.update(request.get("env", {}))
    if not request.get("real"):
        os.environ["STSB_BATCH_ENGINE"], os.environ["STSB_BATCH_PRECISION"] = "openvino", "fp32"
        engine = SickEngine(**request.get("engine", {}))
        scorer.open_engine = lambda *_, **__: engine
    if request.get("bug"):
        shard.ScoredFile = None
    if request.get("straight"):
        write_straight_to_the_final_name()
    if request.get("unprivileged"):
        forget_privileges()
    if request.get("file_bytes"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], request["file_bytes"]))
    if not request.get("real"):
        install(Steps(request.get("fault"), notes))
    sys.argv = ["stsb-batch", *request["argv"]]
    try:
        main()
    except SystemExit as stop:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(stop.code or 0)
    except BaseException:  # noqa: BLE001 - a run that ends so is a failed test, not the driver's end
        traceback.print_exc()
    os._exit(99)


def serve(request: dict) -> dict:
    """Fork a run, kill it after `kill_after` seconds if asked to, and tell how it ended."""
    began, (reader, writer) = time.monotonic(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        child(request, writer)
    os.close(writer)
    notes = bytearray()
    os.set_blocking(reader, False)
    while True:
        with contextlib.suppress(BlockingIOError):
            notes += os.read(reader, 1 << 16)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if request.get("kill_after") is not None and time.monotonic() - began > request["kill_after"]:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    with contextlib.suppress(BlockingIOError):
        while more := os.read(reader, 1 << 16):
            notes += more
    os.close(reader)
    stdout, stderr = (Path(f"{request['log']}.{name}").read_text(errors="replace") for name in ("stdout", "stderr"))
    return {
        "code": os.waitstatus_to_exitcode(status),
        "steps": notes.decode().split("\n")[:-1],
        "said": stdout + stderr,
        "stdout": stdout,
        "stderr": stderr,
        "seconds": time.monotonic() - began,
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
