"""Two jobs on one output: one wins, the other is sent away at once and names the holder."""

import select
from pathlib import Path

import pytest

from tests.reliability.harness import Case, Driver, check_clean, check_complete


def race(case: Case, rival: Driver, folder: Path) -> tuple[dict, dict]:
    """Start two runs on one output; returns (loser, winner). The winner may go on only when the loser has ended."""
    output, gate = folder / "out", folder / "gate"
    request = {"env": {"STSB_BATCH_SHARD_ROWS": "70"}, "engine": {"gate": str(gate)}}
    drivers = [case.driver, rival]
    for driver in drivers:
        driver.start(*case.command(output), **request)
    loser, winner = wait_for_first(drivers)
    gate.touch()
    return loser, winner.result() | {"output": output}


def wait_for_first(drivers: list[Driver]) -> tuple[dict, Driver]:
    ready, _, _ = select.select([driver.replies for driver in drivers], [], [], 30)
    assert ready, "neither of two jobs gave way"
    first = next(driver for driver in drivers if driver.replies in ready)
    return first.result(), next(driver for driver in drivers if driver is not first)


def check_race(case: Case, loser: dict, winner: dict) -> None:
    assert winner["code"] == 0, winner["said"]
    assert loser["code"] == 75, loser["said"]
    assert "is in use by process " in loser["said"]
    check_complete(case, winner["output"])
    check_clean(winner["output"])


@pytest.fixture
def rival(tmp_path: Path):
    driver = Driver(tmp_path)
    yield driver
    driver.close()


def test_one_of_two_jobs_wins(case: Case, rival: Driver, tmp_path: Path):
    """Of two jobs at once exactly one writes; the other ends with 75 while the winner still runs."""
    check_race(case, *race(case, rival, tmp_path))


@pytest.mark.slow
def test_hundred_races(case: Case, rival: Driver, tmp_path: Path):
    """Exactly one winner in each of 100 races."""
    for number in range(100):
        folder = tmp_path / f"race{number}"
        folder.mkdir()
        check_race(case, *race(case, rival, folder))
