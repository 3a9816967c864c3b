"""Whether a file is Parquet, by its name or its first and last bytes, and whether it belongs to a table format."""

import os
import stat
from pathlib import Path

from stsb_batch.errors import BadDataError, escape_control

MAGIC = (b"PAR1", b"PARE")  # at both ends of a Parquet file; PARE where its footer is encrypted
SUFFIXES = (".parquet", ".parq", ".pq")  # a file with such a name that is not Parquet is an error
# entry that marks a table's folder -> (table format, command that exports its live rows)
TABLES = {
    "_delta_log": ("Delta", "duckdb -c \"copy (from delta_scan('{table}')) to 'live.parquet'\""),
    "metadata/*.metadata.json*": ("Iceberg", "duckdb -c \"copy (from iceberg_scan('{table}')) to 'live.parquet'\""),
    ".hoodie": ("Hudi", "spark.read.format('hudi').load('{table}').write.parquet('live')"),
    "_spark_metadata": ("Spark streaming", "spark.read.parquet('{table}').write.parquet('live')"),
}


def is_parquet(path: Path) -> bool:
    """Say whether a file is, or is meant to be, Parquet: by its suffix, or by the magic bytes at either end.

    A file that cannot be read counts as Parquet, so that it is reported rather than skipped.
    """
    if path.name.lower().endswith(SUFFIXES):
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
    """Raise `BadDataError` where a file lies in a table's folder: only the table's log says which of its rows are live."""
    parents = {Path(os.path.realpath(file)).parent for file in files}
    for folder in sorted(parents.union(*(parent.parents for parent in parents))):
        for entry, (name, export) in TABLES.items():
            if next(folder.glob(entry), None) is not None:
                raise BadDataError(
                    f"{escape_control(folder)}: is the folder of a table ({name}), whose files may also hold rows "
                    "that were deleted or replaced. Export its live rows and score those: "
                    f"{export.format(table=escape_control(folder))}"
                )
