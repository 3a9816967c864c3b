"""Flip single bits of a run's output: verification sees each of them."""

import random
import shutil
from pathlib import Path

import pytest

from stsb_batch.jobs.verify import verify_output
from stsb_batch.settings import load_settings
from tests.reliability.harness import Case


def flip_bits(output: Path, flips: int, seed: int) -> list[str]:
    """Flip one bit at a time, anywhere in any file of the output, and return those that verification missed."""
    chance, missed = random.Random(seed), []  # noqa: S311
    files = sorted(path for path in output.rglob("*") if path.is_file())
    for _ in range(flips):
        path = chance.choice(files)
        content = path.read_bytes()
        place, bit = chance.randrange(len(content)), chance.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
        if not verify_output(output, sample=0, settings=load_settings()).problems:
            missed.append(f"{path.name}: bit {bit} of byte {place} of {len(content)}")
        path.write_bytes(content)
    return missed


@pytest.fixture
def output(case: Case, tmp_path: Path) -> Path:
    assert case.run(tmp_path / "out")["code"] == 0
    return tmp_path / "out"


def test_untouched_output_is_well(output: Path):
    """Nothing is found where nothing is wrong, so that a finding means something."""
    assert verify_output(output, sample=0, settings=load_settings()).problems == []


def test_bit_flips_are_found(output: Path):
    """Each of 60 flipped bits in manifest, report, _SUCCESS or scores is found."""
    assert flip_bits(output, 60, seed=1) == []


@pytest.mark.slow
def test_six_hundred_bit_flips_are_found(output: Path):
    """Each of 600 flipped bits is found."""
    assert flip_bits(output, 600, seed=2) == []


@pytest.mark.parametrize("damage", ["vanished", "extra", "unfinished", "swapped"])
def test_other_damage_is_named(output: Path, damage: str):
    """A missing file, a foreign one, a missing _SUCCESS and two files changed for one another are told by name."""
    target = output / "c.parquet"
    if damage == "vanished":
        target.unlink()
        words = "c.parquet: is missing"
    elif damage == "extra":
        shutil.copy(target, output / "d.parquet")
        words = "d.parquet: not in the manifest"
    elif damage == "unfinished":
        (output / "_SUCCESS").unlink()
        words = "_SUCCESS is missing"
    else:
        shutil.copy(output / "k=1/a.parquet", target)
        words = "c.parquet: its SHA-256"
    problems = verify_output(output, sample=0, settings=load_settings()).problems
    assert len(problems) == 1
    assert words in problems[0]
