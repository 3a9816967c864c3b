"""The n-th file operation fails: the right exit code, old output intact, nothing partial under a final name."""

import errno
from pathlib import Path

import pytest

from tests.reliability.harness import Case, check_complete, check_visible, finish, outputs

HARMLESS = ("unlink", "rmdir", "mkdir")  # tidying up, which the next run does, or making a folder that is there already
COMMITTED = ("close:lock",)
TRIED_AGAIN = "open:history"  # the first: a file without a name, in whose place `tempfile` then makes one that has a name


def fail_and_finish(case: Case, output: Path, step: int, number: int, old: dict[str, bytes] | None = None) -> None:
    """Let one step fail, look at what is left, then run the same command without the fault."""
    more = ["--overwrite"] if old else []
    failed = case.run(output, *more, fault={"kind": "error", "step": step, "errno": number})
    name = failed["steps"][step - 1]
    assert "Traceback" not in failed["said"], failed["said"]
    if failed["code"] == 0:
        tried_again = name == TRIED_AGAIN and failed["steps"].index(name) == step - 1
        assert name.startswith(HARMLESS) or name in COMMITTED or tried_again, f"{name} failed unnoticed"
        check_complete(case, output)
    else:
        assert failed["code"] == 74, (name, failed["code"], failed["said"])
        assert ("disk full" in failed["said"]) == (number == errno.ENOSPC), failed["said"]
        check_visible(case, output, old)
    if old:
        again = case.run(output, *more)
        assert again["code"] == 0, again["said"]
        check_complete(case, output)
    else:
        finish(case, output)


def kinds(case: Case) -> list[tuple[str, int]]:
    return [(name, case.steps.index(name) + 1) for name in dict.fromkeys(case.steps)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_some_operations_fail(case: Case, tmp_path: Path, number: int):
    """ENOSPC and EIO at some of the named steps."""
    for _, step in kinds(case)[(0 if number == errno.EIO else 3) :: 6]:
        fail_and_finish(case, tmp_path / f"out{step}", step, number)


def test_old_output_survives_a_failed_overwrite(case: Case, tmp_path: Path):
    """With output of another plan in place, a failure leaves each file old or new, never partial or missing."""
    for name, step in (
        ("write:shard", 5),
        ("write:shard", 60),
        ("replace:shard", 3),
        ("fsync:shard", 4),
        ("replace:report", 1),
    ):
        output = tmp_path / f"{name.replace(':', '-')}{step}"
        other = case.run(output, "--max-length", "16")
        assert other["code"] == 0, other["said"]
        old = {name: path.read_bytes() for name, path in outputs(output).items()}
        failed = case.run(output, "--overwrite", fault={"kind": "error", "name": name, "step": step, "errno": errno.EIO})
        assert failed["code"] == 74, failed["said"]
        assert failed["steps"][-1] != "replace:success"
        assert set(old) <= set(outputs(output))
        check_visible(case, output, old)
        assert case.run(output, "--overwrite")["code"] == 0
        check_complete(case, output)


def test_file_size_limit(case: Case, tmp_path: Path):
    """A limit on file sizes is an I/O error like any other."""
    limited = case.run(tmp_path / "out", file_bytes=2_000)
    assert limited["code"] == 74, limited["said"]
    check_visible(case, tmp_path / "out")
    finish(case, tmp_path / "out")


def test_folder_without_permission(case: Case, tmp_path: Path):
    """An output folder that may not be written to ends with 77 before anything is read at length or loaded."""
    (tmp_path / "locked").mkdir(mode=0o555)
    refused = case.run(tmp_path / "locked" / "out", unprivileged=True)
    assert refused["code"] == 77, refused["said"]
    assert "no permission" in refused["said"]
    assert refused["seconds"] < 3
    assert not [name for name in refused["steps"] if name.startswith("write")]


def test_input_without_permission(case: Case, tmp_path: Path):
    """An unreadable file ends a single-file run with 77, and is left out of a folder."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.parquet").write_bytes((case.source / "c.parquet").read_bytes())
    (folder / "a.parquet").chmod(0o000)
    options = ("--model", case.model, "--warn-bad-rows", "1")
    alone = case.driver.run("score", folder / "a.parquet", *options, unprivileged=True)
    assert alone["code"] == 77, alone["said"]
    assert "a.parquet" in alone["said"]
    together = case.driver.run("score", folder, "-o", tmp_path / "out", *options, unprivileged=True)
    assert together["code"] == 11, together["said"]
    assert list(outputs(tmp_path / "out")) == ["b.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_every_operation_fails(case: Case, tmp_path: Path, number: int, capsys: pytest.CaptureFixture):
    """The n-th operation fails, for n = 1 until a run without a fault."""
    for step in range(1, len(case.steps) + 1):
        fail_and_finish(case, tmp_path / f"out{step}", step, number)
    with capsys.disabled():
        print(f"\n{errno.errorcode[number]}: {len(case.steps)} operations failed one by one, wrong outcomes 0")
