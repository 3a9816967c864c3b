"""What a file is: Parquet or not, which its first and last bytes say, and whether it belongs to a table."""

import os
import stat
from pathlib import Path

from stsb_batch.errors import BadDataError, escape_control

MAGIC = (b"PAR1", b"PARE")  # at both ends of a Parquet file; the second where its footer is encrypted
ENDINGS = (".parquet", ".parq", ".pq")  # such a file is meant to be Parquet, so it is an error when it is not
# entry of a folder -> (the table format whose folder it is, the query that gives its live rows)
TABLES = {
    "_delta_log": ("Delta", "duckdb -c \"copy (from delta_scan('{table}')) to 'live.parquet'\""),
    "metadata/*.metadata.json*": ("Iceberg", "duckdb -c \"copy (from iceberg_scan('{table}')) to 'live.parquet'\""),
    ".hoodie": ("Hudi", "spark.read.format('hudi').load('{table}').write.parquet('live')"),
    "_spark_metadata": ("Spark streaming", "spark.read.parquet('{table}').write.parquet('live')"),
}


def is_parquet(path: Path) -> bool:
    """Say whether a file is, or is meant to be, Parquet: by the ending of its name, or by the magic word at either end.

    One that cannot be read is taken for Parquet, so that it is told rather than passed over.
    """
    if path.name.lower().endswith(ENDINGS):
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(len(MAGIC[0]))
            file.seek(max(0, os.fstat(file.fileno()).st_size - len(MAGIC[0])))
            return head in MAGIC or file.read() in MAGIC
    except OSError:
        return True


def refuse_tables(files: list[Path]) -> None:
    """Raise `BadDataError` where a file lies in a table's folder: which of its rows live, only the table's log says."""
    parents = {Path(os.path.realpath(file)).parent for file in files}
    for folder in sorted(parents.union(*(parent.parents for parent in parents))):
        for entry, (name, export) in TABLES.items():
            if next(folder.glob(entry), None) is not None:
                raise BadDataError(
                    f"{escape_control(folder)}: is the folder of a table ({name}), whose files also hold rows that were "
                    f"deleted or replaced. Export its live rows and score those: "
                    f"{export.format(table=escape_control(folder))}"
                )
