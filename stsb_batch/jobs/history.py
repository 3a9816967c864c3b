"""Earlier runs over the same kind of data: which they are, and what their reports say.

A data set's nights lie in different places (`pairs/night=2026-01-01`, `pairs/night=2026-01-02`). What names them together is
their series: the input's location with its date masked, and the columns that are compared.
"""

import datetime as dt
import json
import logging
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stsb_batch.errors import shown, storage_error
from stsb_batch.pairs.schema import Columns
from stsb_batch.pairs.sink import footer_entries
from stsb_batch.report.sketch import Sketch

log = logging.getLogger(__name__)

# 2026-01-02, 20260102, 2026/01/02, year=2026/month=01/day=02
DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)\D{0,7}?(0[1-9]|1[0-2])\D{0,5}?(0[1-9]|[12]\d|3[01])(?!\d)")
LOOKED_AT = 1_000  # reports, the newest first; older ones are not searched for a run to compare with


@dataclass(frozen=True)
class Series:
    """Which runs belong together (`name`), and the night among them (YYYYMMDD; empty where the location has no date)."""

    name: str
    night: str

    @property
    def title(self) -> str:
        """Write the night as a date, or as several where the location has more than one."""
        return " ".join(f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in map("".join, zip(*[iter(self.night)] * 8, strict=True)))

    def footer(self) -> dict[str, str]:
        return {"series": self.name, "night": self.night}


@dataclass(frozen=True)
class PastRun:
    """An earlier run: its night (or the day it ran), its report and the sketch of its rows."""

    title: str
    report: pl.DataFrame
    sketch: Sketch


def series_of(location: str, columns: Columns) -> Series:
    """Name the series and the night of an input location."""
    place = os.path.abspath(location)  # noqa: PTH100 - a glob stays a glob, a link a link
    night = "".join("".join(match.groups()) for match in DATE.finditer(place))
    return Series(f"{DATE.sub('{date}', place)} [{columns.left}, {columns.right}]", night)


def report_name(started: dt.datetime, run_id: str) -> str:
    """Name a run's report in the history: by the moment it started, to the microsecond, so that names sort by time."""
    return f"{_moment(started)}-{run_id[:8]}.parquet"


def reports_folder(home: Path) -> Path:
    """Return where the reports of all runs are kept."""
    return home / "reports"


def open_history(home: Path) -> None:
    """Make the folder of all reports; raises the error of a place where nothing can be written."""
    folder = reports_folder(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise storage_error(error, "keeping reports (STSB_BATCH_HOME)", folder) from error


def past_runs(home: Path, series: Series, *, before: dt.datetime, count: int = 1) -> list[PastRun]:
    """Return the runs of a series before a night (or before a moment, where there is no night), oldest first.

    A night that was run several times counts once, as it was run last. A report that cannot be read is passed over.
    """
    found: dict[str, Path] = {}
    for path in sorted(reports_folder(home).glob("*.parquet"), reverse=True)[:LOOKED_AT]:
        entries = footer_entries(path)
        night = entries.get("night", "")
        is_earlier = night < series.night if night else path.name < _moment(before)
        if entries.get("series") == series.name and is_earlier:
            found.setdefault(night or path.name, path)
    runs = [_read_run(found[key]) for key in sorted(found)[-count:]]
    return [run for run in runs if run]


def _moment(moment: dt.datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S%f}"


def _read_run(path: Path) -> PastRun | None:
    try:
        entries, report = footer_entries(path), pl.read_parquet(path, memory_map=False, glob=False)
        title = Series(entries["series"], entries["night"]).title or f"{report['run_at'][0]:%Y-%m-%d}"
        return PastRun(title, report, Sketch(**json.loads(entries["sketch"])))
    except (OSError, KeyError, TypeError, ValueError, IndexError, pl.exceptions.PolarsError) as error:
        log.warning("%s: not compared with, since it cannot be read (%s)", shown(path.name), type(error).__name__)
        return None
