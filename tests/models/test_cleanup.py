"""What the registry may lose, and what it never loses."""

import os
import time
from pathlib import Path

from stsb_batch.models import registry
from stsb_batch.models.cleanup import DEAD_SECONDS, collect_garbage, sweep_staging
from tests.builders import add_version


def test_champions_and_newest_versions_stay(tmp_path: Path, bert: Path):
    """Whatever has ever been champion and the newest versions of each name stay; the rest goes."""
    for number in range(6):
        version = add_version(tmp_path, bert, mark=" " * number)
        if number in (1, 2):
            registry.promote(tmp_path, version, "test")
    add_version(tmp_path, bert, name="other")
    registry.rollback(tmp_path)
    found = collect_garbage(tmp_path, keep=2, remove=True)
    assert [version.reference for version in found.versions] == ["sts@1", "sts@4"]
    assert [version.reference for version in registry.list_versions(tmp_path)] == [
        "other@1",
        "sts@2",
        "sts@3",
        "sts@5",
        "sts@6",
    ]
    assert registry.resolve_model(tmp_path, "champion").name == "sts@2"
    assert not list((tmp_path / "models/.staging").rglob("removed"))


def test_listing_removes_nothing(tmp_path: Path, bert: Path):
    """Without `remove` the versions that may go are listed with their size, and all are still there."""
    for number in range(3):
        add_version(tmp_path, bert, mark=" " * number)
    found = collect_garbage(tmp_path, keep=1, remove=False)
    assert [version.reference for version in found.versions] == ["sts@1", "sts@2"]
    assert found.size_bytes > 2 * (bert / "model.safetensors").stat().st_size
    assert len(registry.list_versions(tmp_path)) == 3


def test_numbers_are_never_given_twice(tmp_path: Path, bert: Path):
    """The newest version stays, so that the next one gets a new number."""
    for number in range(3):
        add_version(tmp_path, bert, mark=" " * number)
    collect_garbage(tmp_path, keep=1, remove=True)
    assert add_version(tmp_path, bert, mark="    ").reference == "sts@4"


def test_dead_staging_is_swept_and_work_under_way_is_not(tmp_path: Path):
    """A staging folder that is old and in nobody's hands goes; a young one and a locked one stay."""
    dead, young, locked = (registry.staging_folder(tmp_path, name) for name in ("dead", "young", "locked"))
    (dead / "candidate").mkdir()
    past = time.time() - 2 * DEAD_SECONDS
    for folder in (dead, locked):
        os.utime(folder, (past, past))
    with registry.staging_lock(locked):
        assert sweep_staging(tmp_path) == [dead]
    assert [folder.exists() for folder in (dead, young, locked)] == [False, True, True]
