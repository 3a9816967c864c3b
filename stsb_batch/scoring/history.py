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
import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.durable import file_sha256
from stsb_batch.errors import StsbBatchError, escape_control, first_line, storage_error
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import Columns
from stsb_batch.pairs.sink import footer_entries
from stsb_batch.report.sketch import Sketch
from stsb_batch.report.table import SCHEMA, content_sha256

log = logging.getLogger(__name__)

# 2026-01-02, 20260102, 2026/01/02, year=2026/month=01/day=02
DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)\D{0,7}?(0[1-9]|1[0-2])\D{0,5}?(0[1-9]|[12]\d|3[01])(?!\d)")
DIGEST = re.compile("-([0-9a-f]{64})$")
MAX_REPORTS_SEARCHED = 1_000  # reports, the newest first; older ones are not searched for a run to compare with


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
class Report:
    """A report file: its table and the entries of its footer."""

    report: pl.DataFrame
    footer: dict[str, str]


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


def report_name(started: dt.datetime, sha256: str) -> str:
    """Name a run's report in the history: by the moment it started, so that names sort by time, and by its digest."""
    return f"{_moment(started)}-{sha256}.parquet"


def is_checked(path: Path) -> bool:
    """Say whether a report's name in the history contains its digest; those of version 0.1.0 do not."""
    return DIGEST.search(path.stem) is not None


def is_damaged(path: Path) -> bool:
    """Say whether a report of the history has another digest than its name says."""
    digest = DIGEST.search(path.stem)
    return digest is not None and file_sha256(path) != digest[1]


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
    for path in sorted(reports_folder(home).glob("*.parquet"), reverse=True)[:MAX_REPORTS_SEARCHED]:
        try:
            if not path.is_file() or is_damaged(path):  # known before a library parses it
                log.warning("%s: damaged, and not compared with. Remove it", escape_control(path))
                continue
            entries = footer_entries(path)
        except (OSError, StsbBatchError) as error:
            log.warning("%s: cannot be read, and is not compared with (%s)", escape_control(path), first_line(error))
            continue
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
        read = _read_report(path) if is_checked(path) else earlier_report(path)
        if read is None:
            raise ValueError("damaged")
        title = Series(read.footer["series"], read.footer["night"]).title or f"{read.report['run_at'][0]:%Y-%m-%d}"
        return PastRun(title, read.report, Sketch.from_json(json.loads(read.footer["sketch"])))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with an old report, no run of today may end by it
        log.warning("%s: cannot be read, and is not compared with (%s)", escape_control(path), first_line(error))
        return None


def earlier_report(path: Path) -> Report | None:
    """Read a report of version 0.1.0, whose own digest covers its figures only; None when there is none, or it is damaged.

    It is opened in the sandbox first, because nothing proves that its bytes are those that were written.
    """
    if not path.is_file():
        return None
    try:
        with Sandbox() as sandbox:
            sandbox.probe_footer(path, path.name)
            sandbox.probe_pages(path, path.name, None, [])
        read = _read_report(path)
        is_intact = content_sha256(read.report) == read.footer["content"]
    except (OSError, KeyError, ValueError, pa.ArrowException, pl.exceptions.PolarsError, StsbBatchError):
        return None
    return read if is_intact else None


def _read_report(path: Path) -> Report:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return Report(pl.DataFrame(file.read()).select(*SCHEMA).cast(SCHEMA), footer_entries(path))
