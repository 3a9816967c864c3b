"""Flip single bits of files of ours, of every kind: each is found, none is a crash, and none stops another run."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from stsb_batch.models import decisions, registry
from stsb_batch.scoring.verify import Verification, verify_output
from stsb_batch.scoring.verify_home import verify_home
from stsb_batch.settings import load_settings
from tests.builders import PASSED, make_pairs
from tests.reliability.harness import Case, check_complete

KINDS = {
    "scores": ("out", "**/*.parquet"),
    "folder's report": ("out", "_report.pq"),
    "quarantine": ("out", "_quarantine/**/*.pq"),
    "manifest": ("out", "_manifest.json"),
    "_SUCCESS": ("out", "_SUCCESS"),
    "single file": ("one.parquet", "one.parquet"),
    "single file's report": ("one.parquet", "_one.report.pq"),
    "single file's quarantine": ("one.parquet", "_one.quarantine.pq"),
    "single file's manifest": ("one.parquet", "_one.manifest.json"),
    "history": ("home", "reports/*.parquet"),
    "card": ("home", "models/*/*/card.json"),
    "weights": ("home", "models/*/*/model.safetensors"),
    "metrics": ("home", "models/*/*/metrics.parquet"),
    "decisions": ("home", "models/*/*/decisions.json"),
    "pointer": ("home", "models/champion.json"),
}


@pytest.fixture
def place(case: Case, tmp_path: Path) -> Path:
    """A folder's output, a single file's, and a home with reports, a champion, and a decision about it."""
    single = case.source / "c.parquet"
    for argv in (case.command(tmp_path / "out"), ["score", single, "-o", tmp_path / "one.parquet", "--model", case.model]):
        done = case.driver.run(*argv, *case.options, env={"STSB_BATCH_HOME": str(tmp_path / "home")})
        assert done["code"] == 0, done["said"]
    candidate = registry.staging_folder(tmp_path / "home") / "candidate"
    shutil.copytree(case.model, candidate)
    make_pairs(20).write_parquet(candidate / registry.METRICS)
    version = registry.register(tmp_path / "home", "sts", candidate, {"gate": PASSED})
    registry.promote(tmp_path / "home", version, "test")
    decisions.record(version, "promote", "Kim", "better")
    return tmp_path


def check(place: Path, part: str) -> Verification:
    if part == "home":
        return verify_home(place / part)
    return verify_output(place / part, sample=0, settings=load_settings())


def flip_bits(place: Path, flips: int, seed: int, look: Callable[[str], object], kinds: Collection[str] = KINDS) -> Counter:
    """Flip one bit at a time, in files of each kind in turn, and count the kinds where `look(part)` found nothing."""
    chance, missed = random.Random(seed), Counter()  # noqa: S311
    for number in range(flips):
        kind = list(kinds)[number % len(kinds)]
        part, pattern = KINDS[kind]
        path = chance.choice(sorted((place if part == "one.parquet" else place / part).glob(pattern)))
        content = path.read_bytes()
        byte, bit = chance.randrange(len(content)), chance.randrange(8)
        path.write_bytes(content[:byte] + bytes([content[byte] ^ (1 << bit)]) + content[byte + 1 :])
        if not look(part):
            missed[f"{kind}: bit {bit} of byte {byte} of {len(content)}"] += 1
        path.write_bytes(content)
    return missed


def test_untouched_files_are_well(place: Path):
    """Nothing is found where nothing is wrong, and nothing is left unchecked, so that a finding means something."""
    for part in ("out", "one.parquet", "home"):
        found = check(place, part)
        assert (found.problems, found.notes) == ([], [])


def test_bit_flips_are_found(place: Path):
    """Each of 75 flipped bits, five in each kind of file, is found and is no crash."""
    assert not flip_bits(place, 75, seed=1, look=lambda part: check(place, part).problems)


@pytest.mark.slow
def test_thousand_bit_flips_are_found(place: Path):
    """Each of 1,000 flipped bits, over all kinds of files, is found and is no crash."""
    assert not flip_bits(place, 1_000, seed=2, look=lambda part: check(place, part).problems)


def score_after(case: Case, place: Path, flips: int, seed: int, kinds: list[str]) -> None:
    """Flip bits, and after each score another input in the same home, to the end."""
    outputs = iter(place / f"later{number}" for number in range(flips))

    def later(_: str) -> bool:
        output = next(outputs)
        done = case.run(output, env={"STSB_BATCH_HOME": str(place / "home"), "STSB_BATCH_SHARD_ROWS": "70"})
        assert done["code"] == 0, done["said"]
        assert "Traceback" not in done["said"]
        check_complete(case, output)
        return True

    flip_bits(place, flips, seed, look=later, kinds=kinds)


def test_a_flipped_bit_stops_no_other_run(case: Case, place: Path):
    """Whatever the home keeps is damaged, another output is scored to its end in it."""
    score_after(case, place, 6, 3, [kind for kind, (part, _) in KINDS.items() if part == "home"])


@pytest.mark.slow
def test_many_flipped_bits_stop_no_other_run(case: Case, place: Path):
    """150 flips, ten in each kind of file, and a run after each."""
    score_after(case, place, 10 * len(KINDS), 4, list(KINDS))


@pytest.fixture
def output(case: Case, tmp_path: Path) -> Path:
    assert case.run(tmp_path / "out")["code"] == 0
    return tmp_path / "out"


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
