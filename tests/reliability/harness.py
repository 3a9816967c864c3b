"""A small warehouse, a driver to break runs on it, and the checks of what a broken run may leave."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.scoring.verify import verify_output
from stsb_batch.settings import load_settings
from tests.builders import make_pairs

ROOT = Path(__file__).parents[2]


class Driver:
    """A client of `driver.py`; one run at a time."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "run.log"
        environment = os.environ | {"STSB_BATCH_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "ignore", "-m", "tests.reliability.driver"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )

    def start(self, *argv: str, **request) -> None:
        request |= {"argv": [str(word) for word in argv], "log": str(self._log)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def result(self) -> dict:
        return json.loads(self._process.stdout.readline())

    def run(self, *argv: str, **request) -> dict:
        """Run a command line; returns code, steps, said, seconds."""
        self.start(*argv, **request)
        return self.result()

    @property
    def replies(self):
        """What to wait on for the next result."""
        return self._process.stdout

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def lay_out(folder: Path) -> Path:
    """Write a folder of three files, one of them two shards' worth, with bad rows."""
    for name, rows in (("k=1/a", 60), ("k=2/b", 130), ("c", 40)):
        frame = make_pairs(rows, seed=rows).drop("label")
        frame[3, "sentence1"] = None
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path, row_group_size=70)
    return folder


@dataclass
class Case:
    """One command on one input, and what an unbroken run of it gives."""

    driver: Driver
    source: Path
    model: Path
    options: tuple[str, ...] = ("--on-bad-row", "quarantine", "--warn-bad-rows", "1")
    tables: dict[str, pa.Table] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def command(self, output: Path, *more: str) -> list[str]:
        return ["score", self.source, "-o", output, "--model", self.model, *self.options, *more]

    def run(self, output: Path, *more: str, stall: float = 300, restarts: int = 0, **request) -> dict:
        env = {"STSB_BATCH_SHARD_ROWS": "70", "STSB_BATCH_STALL_SECONDS": str(stall), "STSB_BATCH_RESTARTS": str(restarts)}
        env |= request.pop("env", {})
        return self.driver.run(*self.command(output, *more), env=env, **request)

    def learn(self, output: Path) -> "Case":
        """Run unbroken, to know the right result, the steps and the time; twice, because the first run makes the home."""
        self.run(output.with_name(f"{output.name}.first"))
        done = self.run(output)
        assert done["code"] == 0, done["said"]
        self.steps, self.seconds = done["steps"], done["seconds"]
        self.tables = {name: read(path) for name, path in outputs(output).items()}
        return self


def outputs(output: Path) -> dict[str, Path]:
    """All scored and quarantined files that a reader could see, by name."""
    if output.suffix == ".parquet":
        files = (output, output.with_name(f"_{output.stem}.quarantine.pq"))
        return {path.suffix: path for path in files if path.exists()}
    side = output / "_quarantine"
    found = {str(path.relative_to(output)): path for path in output.rglob("*.parquet")}
    return found | {f"quarantine/{path.relative_to(side)}": path for path in side.rglob("*.pq")}


def read(path: Path) -> pa.Table:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read().replace_schema_metadata(None)


def check_visible(case: Case, output: Path, old: dict[str, bytes] | None = None) -> None:
    """What can be seen after a broken run is whole: each file is the right one or, where there was one, the old one."""
    for name, path in outputs(output).items():
        if old and old.get(name) == path.read_bytes():
            continue
        assert name in case.tables, f"{name} should not be there"
        assert read(path).equals(case.tables[name]), f"{name} is not what an unbroken run writes"
    if (output / "_SUCCESS").exists() and not old:
        check_complete(case, output)


def check_complete(case: Case, output: Path) -> None:
    """A finished run has every file, equal to that of an unbroken run, and passes its own verification."""
    assert set(outputs(output)) == set(case.tables)
    check = verify_output(output, sample=0, settings=load_settings())
    assert not check.problems, check.problems
    for name, path in outputs(output).items():
        assert read(path).equals(case.tables[name]), f"{name} is not what an unbroken run writes"


def check_clean(output: Path) -> None:
    """Nothing of a run's staging is left."""
    left_over = [path for path in output.parent.rglob("*") if "inprogress" in path.name or "_stsb_staging" in str(path)]
    assert not left_over, left_over


def finish(case: Case, output: Path, *more: str) -> None:
    """Run the same command again: it ends well, and touches nothing that was committed."""
    before = {name: (path.stat().st_mtime_ns, path.stat().st_ino) for name, path in outputs(output).items()}
    again = case.run(output, *more)
    assert again["code"] == 0, again["said"]
    check_complete(case, output)
    check_clean(output)
    after = {name: (path.stat().st_mtime_ns, path.stat().st_ino) for name, path in outputs(output).items()}
    redone = {name for name in before if after[name] != before[name]}
    assert not [name for name in redone if not name.startswith("quarantine/")], redone
    assert len(redone) <= 1, redone  # the side file of a shard that was not committed yet


def rows_of(case: Case) -> int:
    return sum(table.num_rows for table in case.tables.values())


def source_rows(source: Path) -> int:
    return pl.scan_parquet(source / "**/*.parquet").select(pl.len()).collect().item()


def first_places(case: Case) -> dict[str, int]:
    """Each named step and the number at which a run first reaches it."""
    return {name: case.steps.index(name) + 1 for name in dict.fromkeys(case.steps)}


def one_of_each_operation(places: dict[str, int]) -> dict[str, int]:
    """Choose, of the named steps of each operation (open, write, fsync, ...), the one in the middle."""
    operations: dict[str, list[str]] = {}
    for name in places:
        operations.setdefault(name.partition(":")[0], []).append(name)
    return {name: places[name] for name in (names[len(names) // 2] for names in operations.values())}
