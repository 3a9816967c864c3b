"""The n-th file operation fails: the right exit code, old output intact, nothing partial under a final name."""

import errno
import shutil
from pathlib import Path

import pytest

from stsb_batch.models import registry
from tests.builders import add_version, make_pairs
from tests.reliability.harness import (
    Case,
    Driver,
    check_complete,
    check_visible,
    finish,
    first_places,
    one_of_each_operation,
    outputs,
)

HARMLESS = ("unlink", "rmdir", "mkdir")  # tidying up, which the next run does, or making a folder that is there already
COMMITTED = ("close:lock",)
TRIED_AGAIN = "open:history"  # the first: a file without a name, in whose place `tempfile` then makes one that has a name


def fail(case: Case, output: Path, step: int, number: int) -> None:
    """Let one step fail and look at what is left."""
    failed = case.run(output, fault={"kind": "error", "step": step, "errno": number})
    name = failed["steps"][step - 1]
    assert "Traceback" not in failed["said"], failed["said"]
    if failed["code"] == 0:
        tried_again = name == TRIED_AGAIN and failed["steps"].index(name) == step - 1
        assert name.startswith(HARMLESS) or name in COMMITTED or tried_again, f"{name} failed unnoticed"
        check_complete(case, output)
    else:
        assert failed["code"] == 74, (name, failed["code"], failed["said"])
        assert ("disk full" in failed["said"]) == (number == errno.ENOSPC), failed["said"]
        check_visible(case, output)


def test_an_operation_of_each_kind_fails(case: Case, tmp_path: Path):
    """EIO at an open, a write, a rename, ...; then the same command without the fault finishes the output."""
    for step in one_of_each_operation(first_places(case)).values():
        fail(case, tmp_path / f"out{step}", step, errno.EIO)
        finish(case, tmp_path / f"out{step}")


def test_full_disk_at_some_operations(case: Case, tmp_path: Path):
    """ENOSPC at every eighth of the named steps is an I/O error that says so."""
    for step in list(first_places(case).values())[3::8]:
        fail(case, tmp_path / f"out{step}", step, errno.ENOSPC)


def test_old_output_survives_a_failed_overwrite(case: Case, tmp_path: Path):
    """With output of another plan in place, a failure leaves each file old or new, never partial or missing."""
    output, before = tmp_path / "out", tmp_path / "before"
    other = case.run(output, "--max-length", "16")
    assert other["code"] == 0, other["said"]
    old = {name: path.read_bytes() for name, path in outputs(output).items()}
    shutil.copytree(output, before)
    for name, step in (
        ("write:shard", 5),
        ("write:shard", 60),
        ("replace:shard", 3),
        ("fsync:shard", 4),
        ("replace:report", 1),
    ):
        shutil.rmtree(output)
        shutil.copytree(before, output)
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


def test_disk_full_while_saving_leaves_the_champion(driver: Driver, bert: Path, settings, tmp_path: Path):
    """When a refresh cannot write its weights, it ends with 74 in one line; champion untouched, candidate swept."""
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    registry.promote(settings.home, add_version(settings.home, bert), "test")
    before = (settings.home / "models/champion.json").read_bytes()
    command = ("refresh", "--labels", tmp_path / "labels.parquet", "--base-model", bert, "--floor", "-1")
    done = driver.run(*command, env={"STSB_BATCH_HOME": str(settings.home)}, file_bytes=1_000_000, real=True)
    assert done["code"] == 74, done["said"]
    assert "Traceback" not in done["stderr"]
    assert "while saving the model" in done["stderr"].splitlines()[-1]
    assert (settings.home / "models/champion.json").read_bytes() == before
    assert not [path for path in (settings.home / "models/.staging").iterdir() if any(path.rglob("*.safetensors"))]
    assert [version.reference for version in registry.list_versions(settings.home)] == ["sts@1"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_every_operation_fails(case: Case, tmp_path: Path, number: int, capsys: pytest.CaptureFixture):
    """The n-th operation fails, for n = 1 until a run without a fault."""
    for step in range(1, len(case.steps) + 1):
        fail(case, tmp_path / f"out{step}", step, number)
        finish(case, tmp_path / f"out{step}")
    with capsys.disabled():
        print(f"\n{errno.errorcode[number]}: {len(case.steps)} operations failed one by one, wrong outcomes 0")
