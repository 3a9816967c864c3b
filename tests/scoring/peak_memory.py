"""The peak memory and speed of `stsb-batch score` on a file of made-up rows, every text distinct.

Usage: python -m tests.scoring.peak_memory ROWS MODEL. Run it with two sizes: the peak must not follow the size.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from tests.builders import make_pairs

GROUP = 100_000


def write_rows(path: Path, rows: int) -> None:
    """Write pairs in row groups of a hundred thousand; each text ends in a number of its own."""
    writer, group = None, make_pairs(min(GROUP, rows)).drop("label")
    for first in range(0, rows, GROUP):
        frame = group.head(rows - first)
        number = pl.int_range(first, first + frame.height).cast(pl.String)
        table = frame.with_columns(
            pl.concat_str(column, pl.lit(" "), number) for column in ("sentence1", "sentence2")
        ).to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def main() -> None:
    rows, model = int(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "in.parquet", rows)
        began = time.perf_counter()
        command = [sys.executable, "-m", "stsb_batch", "score", f"{folder}/in.parquet", "--model", model]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"STSB_BATCH_HOME": f"{folder}/home"})
        _, code, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
    print(
        f"{rows:,} rows: peak {usage.ru_maxrss / 1024:,.0f} MiB, {seconds:.0f} s, {rows / seconds:,.0f} rows/s, exit {code}"
    )


if __name__ == "__main__":
    main()
