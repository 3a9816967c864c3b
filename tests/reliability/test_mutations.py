"""Damage valid files at random: a project error or all rows come out, never a crash, a hang or a traceback."""

import random
from collections import Counter
from pathlib import Path

import pytest

from stsb_batch.pairs.sandbox import Sandbox
from tests.reliability.bad_files import ROWS, good, outcome_of

LAYOUTS = [
    {"compression": "snappy"},
    {"compression": "zstd", "row_group_size": 30},
    {"compression": "none", "use_dictionary": False, "write_page_checksum": True},
    {"compression": "gzip", "data_page_version": "2.0", "write_statistics": False},
    {"compression": "lz4", "data_page_size": 256, "write_page_index": True},
    {"compression": "zstd", "write_page_checksum": True, "version": "1.0", "store_schema": False},
]


def mutate(content: bytes, chance: random.Random) -> bytes:  # noqa: PLR0911
    """Damage some bytes: cut, flip, overwrite, remove, repeat, or go for the footer."""
    size = len(content)
    place, length = chance.randrange(size), chance.choice([1, 1, 2, 4, 8, 64])
    footer = size - 8 - int.from_bytes(content[-8:-4], "little")
    match chance.randrange(7):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]
        case 2:
            return content[:place] + chance.randbytes(length) + content[place + length :]
        case 3:
            return content[:place] + content[place + length :]
        case 4:
            return content[:place] + content[place : place + length] * 2 + content[place + length :]
        case 5:
            place = chance.randrange(footer, size - 8)
            return (
                content[:place] + chance.randbytes(length)[: size - 8 - place] + content[place + length : -8] + content[-8:]
            )
        case _:
            place = chance.randrange(footer, size)
            return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]


def peak_memory(sandbox: Sandbox) -> int:
    """Return the peak memory of a sandbox's process in bytes; 0 when the last file has killed it (and
    where there is no /proc)."""
    child = sandbox._child
    lines = Path(f"/proc/{child.process.pid}/status").read_text().splitlines() if child and Path("/proc").is_dir() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


def damage_many(folder: Path, count: int, seed: int) -> tuple[Counter, int]:
    """Return what became of the damaged files, and the reader's peak memory (bytes)."""
    chance, outcomes, largest = random.Random(seed), Counter(), 0  # noqa: S311
    valid = [good(folder / "valid.parquet", **layout) for layout in LAYOUTS]
    with Sandbox() as sandbox:
        for number in range(count):
            path = folder / f"{number}.parquet"
            path.write_bytes(mutate(valid[number % len(valid)], chance))
            outcomes[outcome_of(path, sandbox)] += 1
            largest = max(largest, peak_memory(sandbox))
            path.unlink()
    return outcomes, largest


ENDS = {"read", "NOT_PARQUET", "CORRUPT_FILE", "ENCRYPTED", "SCHEMA", "UNSUPPORTED", "RESOURCE_LIMIT", "UsageError"}


def test_valid_files_are_read(tmp_path: Path):
    """Without damage each layout is read whole, so that a refusal means something."""
    for layout in LAYOUTS:
        good(tmp_path / "a.parquet", **layout)
        with Sandbox() as sandbox:
            assert outcome_of(tmp_path / "a.parquet", sandbox) == "read"
    assert ROWS == 100


def test_damaged_files_end_well(tmp_path: Path):
    """Each of 300 damaged files is refused for one of the reasons, or still read to its last row."""
    outcomes, largest = damage_many(tmp_path, 300, seed=1)
    assert set(outcomes) <= ENDS, outcomes
    assert outcomes["CORRUPT_FILE"] > 100
    assert largest < 1.5 * 2**30


@pytest.mark.slow
def test_thousands_of_damaged_files_end_well(tmp_path: Path, capsys: pytest.CaptureFixture):
    """3,000 damaged files, with the memory of the largest printed."""
    outcomes, largest = damage_many(tmp_path, 3_000, seed=2)
    with capsys.disabled():
        print(f"\n3,000 damaged files: {dict(outcomes)}, largest reader {largest >> 20:,} MiB")
    assert set(outcomes) <= ENDS, outcomes
    assert largest < 1.5 * 2**30
