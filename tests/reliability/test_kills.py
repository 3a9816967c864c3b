"""Kill -9 at named steps and at any moment: nothing torn, lost or doubled, and the same command goes on."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from tests.reliability.harness import (
    Case,
    check_visible,
    finish,
    first_places,
    one_of_each_operation,
    outputs,
    rows_of,
    source_rows,
)


def kill_and_finish(case: Case, output: Path, **request) -> dict:
    killed = case.run(output, **request)
    check_visible(case, output)
    finish(case, output)
    return killed


def test_unbroken_run_has_every_row_once(case: Case):
    """Output and quarantine together have as many rows as the input, and no id of a file twice."""
    assert rows_of(case) == source_rows(case.source)
    a = [id_ for name in case.tables if "k=1/a" in name for id_ in case.tables[name]["id"].to_pylist()]
    assert sorted(a) == list(range(60))


def test_killed_at_a_step_of_each_operation(case: Case, tmp_path: Path):
    """A kill at an open, a write, a rename, ... leaves whole files only, and the rerun ends as an unbroken run does."""
    for name, step in one_of_each_operation(first_places(case)).items():
        killed = kill_and_finish(case, tmp_path / f"out{step}", fault={"kind": "kill", "step": step})
        assert killed["code"] == -9
        assert killed["steps"][-1] == name


def test_killed_at_some_moments(case: Case, tmp_path: Path):
    """A kill at any moment does no more harm than one at a step."""
    chance = random.Random(1)  # noqa: S311
    for kill in range(2):
        kill_and_finish(case, tmp_path / f"out{kill}", kill_after=chance.uniform(0, case.seconds))


def test_the_checks_notice_a_writer_that_goes_straight_to_the_final_name(case: Case, tmp_path: Path):
    """With the commit protocol switched off, a kill in the middle of a file is caught by the very checks used here."""
    output = tmp_path / "out"
    step = case.steps.index("open:shard") + 8
    case.run(output, fault={"kind": "kill", "step": step}, straight=True)
    assert outputs(output)
    with pytest.raises((AssertionError, pa.ArrowException)):
        check_visible(case, output)


@pytest.mark.slow
def test_five_hundred_kills(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Every named step, further steps and random moments, 500 kills in all."""
    chance, places = random.Random(2), first_places(case)  # noqa: S311
    steps = list(places.values())
    steps += chance.sample(
        [n for n in range(1, len(case.steps) + 1) if n not in steps], min(250, len(case.steps)) - len(steps)
    )
    reached = set()
    for kill, step in enumerate(steps):
        killed = kill_and_finish(case, tmp_path / f"step{kill}", fault={"kind": "kill", "step": step})
        reached.add(killed["steps"][-1])
    for kill in range(500 - len(steps)):
        killed = kill_and_finish(case, tmp_path / f"moment{kill}", kill_after=chance.uniform(0, case.seconds))
    assert reached == set(places)
    with capsys.disabled():
        print(
            f"\n500 kills: {len(steps)} at steps, {500 - len(steps)} at moments; {len(reached)} of {len(places)} named steps"
        )
