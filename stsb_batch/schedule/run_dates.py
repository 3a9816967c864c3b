"""Which run dates are to be scored, and where their input and output are. Knows neither schedules nor servers.

A run date is the local date of the scheduled start, `YYYY-MM-DD`, so that run dates sort as text.
"""

import datetime as dt
import glob
import logging
import re
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stsb_batch.errors import ConfigError, NothingToReadError, UsageError, escape_control
from stsb_batch.pairs import sink
from stsb_batch.pairs.listing import find_files
from stsb_batch.pairs.source import is_recorded
from stsb_batch.requests import NightlyRequest

PLACEHOLDER = "{night}"
DATE = r"\d{4}-\d\d-\d\d"
log = logging.getLogger(__name__)
MAX_FILES_NAMED = 5  # in a message
BACKFILL_DAYS = 7  # how far a run looks back for dates to backfill


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name; raises `ConfigError` for any other."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"{escape_control(name)}: no such time zone. Name one like Europe/Berlin or UTC.") from None


def parse_run_date(run_date: str) -> str:
    """Return a run date in its usual form; raises `UsageError` for what is no date."""
    try:
        return dt.date.fromisoformat(run_date).isoformat()
    except ValueError:
        raise UsageError(f"{escape_control(run_date)}: not a date. Write the run date as YYYY-MM-DD.") from None


def run_date_of(moment: dt.datetime, timezone: str) -> str:
    """Return the run date of a run that is scheduled at a moment."""
    return moment.astimezone(zone(timezone)).date().isoformat()


def newest_run_date(scheduled: dt.datetime, now: dt.datetime, timezone: str) -> str:
    """Return the newest run date that is due `now`, by the time of day at which a run was scheduled.

    A run that starts days late thus knows the run dates in between, and leaves out the one that is not due yet.
    """
    due, here = scheduled.astimezone(zone(timezone)), now.astimezone(zone(timezone))
    newest = here.date() if here.time() >= due.time() else here.date() - dt.timedelta(days=1)
    return max(due.date(), newest).isoformat()


def deadline_of(clock: str | None, start: dt.datetime, timezone: str) -> dt.datetime | None:
    """Return the deadline of a run: the first `HH:MM` of the local clock after its scheduled start."""
    if clock is None:
        return None
    try:
        time = dt.time.fromisoformat(clock)
    except ValueError:
        raise UsageError(f"{escape_control(clock)}: not a time of day. Write it as HH:MM, for example 07:00.") from None
    here = start.astimezone(zone(timezone))
    days = (here.date(), here.date() + dt.timedelta(days=1))
    clocks = (dt.datetime.combine(day, time.replace(fold=fold), zone(timezone)) for day in days for fold in (0, 1))
    return next(moment for moment in clocks if moment.astimezone(dt.UTC) > start)  # 02:30 comes twice when clocks go back


def check_schedule(request: NightlyRequest) -> None:
    """Raise `UsageError` or `ConfigError` for a wrong output, date, time zone or time of day."""
    output_of(request.output, PLACEHOLDER)
    deadline_of(request.deadline, dt.datetime.now(dt.UTC), request.timezone)
    zone(request.timezone)
    if request.night:
        parse_run_date(request.night)


def input_of(location: str, run_date: str) -> str:
    """Return where the pairs of a run date are."""
    return location.replace(PLACEHOLDER, run_date)


def output_of(output: str, run_date: str) -> Path:
    """Return the folder of a run date's scores: `{night}` in the output becomes the date, else `OUT/<date>`.

    Raises `UsageError` for an output named like a file: a finished run date is recognised by the files in its folder.
    """
    place = Path(output.replace(PLACEHOLDER, run_date)) if PLACEHOLDER in output else Path(output, run_date)
    if place.suffix == ".parquet":
        raise UsageError(f"{escape_control(output)}: the scores of a night are a folder. Leave '.parquet' out of -o.")
    return place


def finished_dates(output: str) -> set[str]:
    """Return the run dates that have a finished folder at the output."""
    marker = str(output_of(output, PLACEHOLDER) / "_SUCCESS")
    first, *others = map(re.escape, marker.split(PLACEHOLDER))
    wanted = re.compile(f"{first}({DATE})" + r"\1".join(others))
    found = map(wanted.fullmatch, glob.iglob(glob.escape(marker).replace(PLACEHOLDER, "*")))
    return {match[1] for match in found if match}


def is_complete(location: str, output: str, run_date: str) -> bool:
    """Say whether a run date was scored to the end, with no file left out, and its input is still what was scored."""
    manifest = _manifest(output, run_date)
    return manifest is not None and not manifest["bad_files"] and not any(_unscored(location, run_date, manifest))


def _unscored(location: str, run_date: str, manifest: dict) -> tuple[list[Path], list[Path]]:
    """List the files of a run date's input that arrived after it was scored, and those that were changed.

    Where all run dates share one input, a scored file may have newer pairs by now, which does not count as a change.
    """
    recorded = {file["input"]["path"]: file["input"] for file in manifest["files"]}
    try:
        files = find_files(input_of(location, run_date)).files
    except NothingToReadError:  # or removed since, as old input is
        return [], []
    late = [relative for path, relative in files if str(path) not in recorded]
    known = [(path, relative) for path, relative in files if str(path) in recorded and PLACEHOLDER in location]
    return late, [relative for path, relative in known if not is_recorded(path, recorded[str(path)])]


def model_of(output: str, run_date: str) -> str:
    """Name the model for a run date: that of the scores that exist already, else the champion."""
    manifest = _manifest(output, run_date)
    return manifest["model"] if manifest else "champion"


def _manifest(output: str, run_date: str) -> dict | None:
    return sink.finished_manifest(sink.Target(output_of(output, run_date)))


def missing_dates(location: str, output: str, newest: str) -> list[str]:
    """List the run dates to backfill up to `newest`, oldest first.

    These are dates that have input and no scores, or input that arrived after they were scored: after the first date that
    was ever finished, and at most `BACKFILL_DAYS` back. Where all run dates share one input there are none, because it has
    the newest pairs only.
    """
    done = finished_dates(output)
    if PLACEHOLDER not in location or not done:
        return []
    last = dt.date.fromisoformat(newest)
    window = [(last - dt.timedelta(days=days)).isoformat() for days in range(BACKFILL_DAYS, -1, -1)]
    return [run_date for run_date in window if run_date >= min(done) and _has_unscored(location, output, run_date)]


def _has_unscored(location: str, output: str, run_date: str) -> bool:
    """Say whether a run date has files still to be scored, apart from those that a finished run left out."""
    manifest = _manifest(output, run_date)
    late, changed = _unscored(location, run_date, manifest or {"files": []})
    if changed:
        log.warning(
            "night %s: its input was changed after it was scored (%s)",
            run_date,
            ", ".join(map(escape_control, changed[:MAX_FILES_NAMED])),
        )
    left_out = {file["path"] for file in manifest["bad_files"]} if manifest else set()
    return any(escape_control(relative) not in left_out for relative in late)


def dates_to_score(location: str, output: str, run_date: str, newest: str) -> list[str]:
    """List what the run of a date has to score, oldest first: that date unless it is complete, and dates to backfill.

    A run date with files left out is thus completed by its own run, when it is started again after they are replaced.
    """
    own = set() if is_complete(location, output, run_date) else {run_date}
    return sorted(own | set(missing_dates(location, output, newest)))
