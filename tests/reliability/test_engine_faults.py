"""Engines that hang or lose their device, and bugs: the run ends by the contract and goes on when started again."""

from pathlib import Path

from tests.reliability.harness import Case, check_visible, finish, outputs, read


def test_hang_is_ended_with_the_stacks_in_the_log(case: Case, tmp_path: Path):
    """Without progress the process ends with 75, shows where each thread stood, and the rerun goes on."""
    hung = case.run(tmp_path / "out", engine={"sickness": "hang", "batches": 3}, stall=0.8)
    assert hung["code"] == 75
    assert "No progress for 1 s" in hung["said"]
    assert 'driver.py", line' in hung["said"]
    check_visible(case, tmp_path / "out")
    finish(case, tmp_path / "out")


def test_lost_device_is_answered_by_a_fresh_process(case: Case, tmp_path: Path):
    """A sticky device error replaces the process; the fresh one goes on behind the shards that are committed."""
    output = tmp_path / "out"
    lost = case.run(output, engine={"sickness": "lost", "batches": 35})
    assert lost["code"] == 0, lost["said"]
    assert "Restarting (1 of 2)" in lost["said"]
    assert (output / "_SUCCESS").exists()
    kept = [name for name in case.tables if "quarantine" not in name and read_equal(case, output, name)]
    assert kept == ["c.parquet"]  # scored before the loss; the others come from the real engine of the fresh process


def read_equal(case: Case, output: Path, name: str) -> bool:
    return read(outputs(output)[name]).equals(case.tables[name])


def test_device_that_stays_lost_is_unavailable(case: Case, tmp_path: Path):
    """After two fresh processes the run gives up with 69, and what is committed stays."""
    gone = case.run(tmp_path / "out", engine={"sickness": "lost", "batches": 2}, restarts=2)
    assert gone["code"] == 69, gone["said"]
    assert "The device has stopped responding" in gone["said"]
    check_visible(case, tmp_path / "out")
    finish(case, tmp_path / "out")


def test_bug_is_shown_whole_and_ends_with_70(case: Case, tmp_path: Path):
    """What was not foreseen is a bug: a traceback, a request to report it, code 70, and nothing torn."""
    broken = case.run(tmp_path / "out", bug=True)
    assert broken["code"] == 70
    assert "Traceback" in broken["said"]
    assert "This is a bug in stsb-batch" in broken["said"]
    finish(case, tmp_path / "out")
