"""Refreshes as processes: two at once, and one that is killed."""

from pathlib import Path

import pytest

from stsb_batch.models import registry
from tests.builders import add_version, make_pairs
from tests.reliability.harness import Driver

pytestmark = pytest.mark.slow


@pytest.fixture
def drivers(tmp_path: Path):
    """Two processes that run command lines, on one home."""
    pair = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pair.append(Driver(tmp_path / name))
    yield pair
    for driver in pair:
        driver.close()


def command(tmp_path: Path, bert: Path, seed: int) -> list[str]:
    path = tmp_path / f"labels{seed}.parquet"
    make_pairs(400, seed=seed).write_parquet(path)
    return ["refresh", "--labels", str(path), "--base-model", str(bert), "--floor", "-1"]


def check_registry(home: Path, champions: int) -> None:
    """Every champion was held against the one before it, and no staging is left."""
    stack = registry.champions(home)["stack"]
    assert len(stack) >= champions
    for before, reference in zip([None, *stack], stack, strict=False):
        assert registry.find_version(home, reference).card["parent"] == before
    assert not list((home / "models/.staging").iterdir())


def test_two_refreshes_at_once(drivers: list[Driver], bert: Path, tmp_path: Path, settings):
    """Two refreshes from different labels both register; at most one replaces the champion that both were held against."""
    for seed, driver in enumerate(drivers):
        driver.start(*command(tmp_path, bert, seed), env={"STSB_BATCH_HOME": str(settings.home)}, real=True)
    done = [driver.result() for driver in drivers]
    assert [run["code"] for run in done] == [0, 0], [run["said"] for run in done]
    versions = registry.list_versions(settings.home)
    assert [version.reference for version in versions] == ["sts@1", "sts@2"]
    check_registry(settings.home, champions=1)


def test_the_same_refresh_twice_at_once(drivers: list[Driver], bert: Path, tmp_path: Path, settings):
    """Of two refreshes from the same labels one trains; the other is sent away with 75 or finds it done."""
    words = command(tmp_path, bert, 0)
    for driver in drivers:
        driver.start(*words, env={"STSB_BATCH_HOME": str(settings.home)}, real=True)
    done = sorted((driver.result() for driver in drivers), key=lambda run: run["code"])
    assert done[0]["code"] == 0, done[0]["said"]
    assert done[1]["code"] in {0, 75}, done[1]["said"]
    if done[1]["code"] == 75:
        assert "is in use by process" in done[1]["stderr"]
    check_registry(settings.home, champions=1)


@pytest.mark.parametrize("seconds", [1.0, 2.5, 4.0, 6.0])
def test_killed_refresh_is_repeated(drivers: list[Driver], bert: Path, tmp_path: Path, settings, seconds: float):
    """SIGKILL at any moment leaves the champion; the same command then makes the version, and nothing is left over."""
    champion = add_version(settings.home, bert, name="old")
    registry.promote(settings.home, champion, "test")
    environment = {"STSB_BATCH_HOME": str(settings.home)}
    words = command(tmp_path, bert, 0)
    drivers[0].run(*words, env=environment, real=True, kill_after=seconds)
    assert registry.champions(settings.home)["stack"][0] == champion.reference
    registry.resolve_model(settings.home, "champion")
    again = drivers[0].run(*words, env=environment, real=True)
    assert again["code"] in {0, 13}, again["said"]
    assert registry.find_version(settings.home, "sts@1").card["parent"] == champion.reference
    assert not list((settings.home / "models/.staging").glob("*/*"))
