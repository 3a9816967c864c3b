"""Durable file operations."""

import subprocess
import sys
from pathlib import Path

import pytest

from stsb_batch.durable import exclusive_lock, replace_durably, write_atomically
from stsb_batch.errors import BusyError, StorageError


def test_write_leaves_only_the_file(tmp_path: Path):
    """An atomic write replaces the content and leaves no staged file behind."""
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_write_has_left_is_swept(tmp_path: Path):
    """A writer killed before its rename leaves a file that the next write removes; one under way is left alone."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom stsb_batch import durable\n"
        "def stop(*_):\n  print('staged', flush=True)\n  sys.stdin.readline()\n  os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.replace = stop\ndurable.write_atomically(Path(sys.argv[1]), b'new')\n"
    )
    path = tmp_path / "champion.json"
    (tmp_path / ".champion.json.4711.inprogress").write_bytes(b"of version 0.1.0")
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "staged\n"
        [staged] = tmp_path.iterdir()
        write_atomically(tmp_path / "other.json", b"other")
        assert staged.exists()
        writer.communicate("\n")
    assert staged.exists()
    write_atomically(path, b"newer")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["champion.json", "other.json"]


def test_replace_of_missing_file_is_a_storage_error(tmp_path: Path):
    """A failing rename is told with the file's name and the exit code for I/O errors."""
    with pytest.raises(StorageError, match=r"final\.parquet"):
        replace_durably(tmp_path / "missing", tmp_path / "final.parquet")


def test_lock_where_no_folder_can_be_made_ends():
    """A place that can never be made is told, not tried for ever."""
    with pytest.raises(StorageError, match="taking the lock"), exclusive_lock(Path("/proc/none/lock"), "it"):
        pass


def test_second_holder_is_told_who_has_the_lock(tmp_path: Path):
    """A lock held by another process raises BusyError naming that process, and is gone when it ends."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom stsb_batch.durable import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1]), 'x'):\n  print('held', flush=True)\n  sys.stdin.read()\n"
    )
    lock = tmp_path / "made" / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match=f"out.parquet is in use by process {holder.pid}"),
            exclusive_lock(lock, "out.parquet"),
        ):
            pytest.fail("two holders")
        holder.kill()
        holder.wait()
    with exclusive_lock(lock, "out.parquet"):
        pass
    assert not lock.exists()


def test_lock_passes_the_body_s_error_on(tmp_path: Path):
    """An error inside the locked block reaches the caller, and the lock is free again."""
    with pytest.raises(FileNotFoundError), exclusive_lock(tmp_path / "lock", "x"):
        raise FileNotFoundError("inside")
    with exclusive_lock(tmp_path / "lock", "x"):
        pass
