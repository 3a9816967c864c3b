"""What safety costs: the share of a run's wall time spent on probing, hashing, syncing and checking again.

Usage: python -m tests.reliability.safety_cost ROWS MODEL [ENGINE]. Page checksums are part of reading and writing; their
cost is measured apart, as the time to write and read the input's rows with and without them.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from stsb_batch import durable
from stsb_batch.pairs import sink, source
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring import finish
from stsb_batch.scoring import job as score
from stsb_batch.settings import load_settings
from tests.builders import make_pairs

PART = 100_000
SAFETY = [
    (Sandbox, "probe_footer"),
    (Sandbox, "probe_pages"),
    (durable, "fsync_path"),
    (sink, "file_sha256"),
    (finish, "file_sha256"),
    (source, "check_unchanged"),
]


def timed(owner, name: str, spent: Counter) -> None:
    real = getattr(owner, name)

    def call(*args, **kwargs):
        began = time.perf_counter()
        try:
            return real(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - began

    setattr(owner, name, call)


def checksum_cost(folder: Path) -> float:
    """Return the seconds that page checksums add to writing and reading the input's rows (best of three)."""
    best = {}
    table = pq.ParquetFile(next(folder.glob("in/*.parquet"))).read()
    parts = len(list(folder.glob("in/*.parquet")))
    for checks in (False, True) * 3:
        began = time.perf_counter()
        pq.write_table(table, folder / "x", compression="zstd", write_page_checksum=checks)
        pq.ParquetFile(folder / "x", page_checksum_verification=checks).read()
        best[checks] = min(best.get(checks, 1e9), time.perf_counter() - began)
    return max(0.0, best[True] - best[False]) * parts


def main() -> None:
    rows, model, engine = int(sys.argv[1]), sys.argv[2], (sys.argv[3:] or ["auto"])[0]
    with tempfile.TemporaryDirectory() as name:
        folder, spent = Path(name), Counter()
        (folder / "in").mkdir()
        for part in range(0, rows, PART):
            frame = make_pairs(min(PART, rows - part), seed=part).drop("label")
            frame.with_columns(pl.concat_str("sentence1", pl.lit(f" {part} "), "id")).write_parquet(
                folder / f"in/{part:09d}.parquet", row_group_size=PART
            )
        spent["page checksums"] = checksum_cost(folder)
        for owner, function in SAFETY:
            timed(owner, function, spent)
        began = time.perf_counter()
        settings = load_settings().model_copy(update={"engine": engine})
        score.score_dataset(ScoreRequest(str(folder / "in"), str(folder / "out"), model=model, settings=settings))
        wall = time.perf_counter() - began
    for function, seconds in spent.most_common():
        print(f"{function:16} {seconds:8.2f} s  {seconds / wall:7.2%}")
    total = sum(spent.values())
    print(f"{rows:,} rows in {wall:.1f} s ({rows / wall:,.0f} rows/s); safety {total:.1f} s, {total / wall:.2%} of it")


if __name__ == "__main__":
    main()
