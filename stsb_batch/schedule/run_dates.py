"""Which nights are to be scored: dates and folders. Knows neither schedules nor servers.

A night is named by the local date of its scheduled start, `YYYY-MM-DD`, so names sort as dates do.
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

NIGHT = "{night}"
DATE = r"\d{4}-\d\d-\d\d"
log = logging.getLogger(__name__)
NAMED = 5  # files that a message names
MISSED_DAYS = 7  # nights that a run looks back for missed ones


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name; raises `ConfigError` for any other."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"{escape_control(name)}: no such time zone. Name one like Europe/Berlin or UTC.") from None


def check_night(night: str) -> str:
    """Return a night's name if it is a date; raises `UsageError` otherwise."""
    try:
        return dt.date.fromisoformat(night).isoformat()
    except ValueError:
        raise UsageError(f"{escape_control(night)}: not a night. Write the date as YYYY-MM-DD.") from None


def night_of(moment: dt.datetime, timezone: str) -> str:
    """Name the night whose run is scheduled at a moment."""
    return moment.astimezone(zone(timezone)).date().isoformat()


def newest_night(scheduled: dt.datetime, now: dt.datetime, timezone: str) -> str:
    """Name the newest night that is due `now`, by the time of day at which a run was scheduled.

    A run that starts days late thus knows of the nights between, and does not touch the one that is yet to come.
    """
    due, here = scheduled.astimezone(zone(timezone)), now.astimezone(zone(timezone))
    newest = here.date() if here.time() >= due.time() else here.date() - dt.timedelta(days=1)
    return max(due.date(), newest).isoformat()


def finish_time(clock: str | None, start: dt.datetime, timezone: str) -> dt.datetime | None:
    """Return the moment at which a night is to be done: the first `HH:MM` of the local clock after its scheduled start."""
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


def check_choices(output: str, night: str | None, timezone: str, done_by: str | None) -> None:
    """Raise `UsageError` or `ConfigError` for a wrong output, date, time zone or time of day."""
    night_output(output, NIGHT)
    finish_time(done_by, dt.datetime.now(dt.UTC), timezone)
    zone(timezone)
    if night:
        check_night(night)


def night_input(location: str, night: str) -> str:
    """Return where a night's pairs are."""
    return location.replace(NIGHT, night)


def night_output(output: str, night: str) -> Path:
    """Return the folder of a night's scores: `{night}` in the output becomes the date, else a folder of that name is added.

    Raises `UsageError` for an output named like a file: a night that is done is known by what lies in its folder.
    """
    place = Path(output.replace(NIGHT, night)) if NIGHT in output else Path(output, night)
    if place.suffix == ".parquet":
        raise UsageError(f"{escape_control(output)}: a night's scores are a folder. Leave '.parquet' out of -o.")
    return place


def done_nights(output: str) -> set[str]:
    """Return the nights that have a finished folder at the output."""
    marker = str(night_output(output, NIGHT) / "_SUCCESS")
    first, *others = map(re.escape, marker.split(NIGHT))
    wanted = re.compile(f"{first}({DATE})" + r"\1".join(others))
    found = map(wanted.fullmatch, glob.iglob(glob.escape(marker).replace(NIGHT, "*")))
    return {match[1] for match in found if match}


def is_whole(location: str, output: str, night: str) -> bool:
    """Say whether a night has been scored to its end, nothing was left out of it, and its input is what was scored."""
    manifest = _manifest(output, night)
    return manifest is not None and not manifest["bad_files"] and not any(_unscored(location, night, manifest))


def _unscored(location: str, night: str, manifest: dict) -> tuple[list[Path], list[Path]]:
    """List the files of a night's input that came after it was scored, and those that were changed.

    Where all nights share one input, what was scored may hold the next night's pairs by now and does not count as changed.
    """
    recorded = {file["input"]["path"]: file["input"] for file in manifest["files"]}
    try:
        files = find_files(night_input(location, night)).files
    except NothingToReadError:  # or removed since, as old input is
        return [], []
    late = [relative for path, relative in files if str(path) not in recorded]
    known = [(path, relative) for path, relative in files if str(path) in recorded and NIGHT in location]
    return late, [relative for path, relative in known if not is_recorded(path, recorded[str(path)])]


def model_of(output: str, night: str) -> str:
    """Name the model for a night: that of the scores that are there already, else the champion."""
    manifest = _manifest(output, night)
    return manifest["model"] if manifest else "champion"


def _manifest(output: str, night: str) -> dict | None:
    return sink.finished_manifest(sink.Target(night_output(output, night)))


def missed_nights(location: str, output: str, newest: str) -> list[str]:
    """List the nights that were missed up to `newest`, oldest first.

    Missed is a night whose input is there and whose scores are not, or part of whose input came after it was done; after
    the first night that was ever done and not more than `MISSED_DAYS` back. Where all nights share one input there is
    none: it holds the newest pairs only.
    """
    done = done_nights(output)
    if NIGHT not in location or not done:
        return []
    last = dt.date.fromisoformat(newest)
    window = [(last - dt.timedelta(days=days)).isoformat() for days in range(MISSED_DAYS, -1, -1)]
    return [night for night in window if night >= min(done) and _has_more(location, output, night)]


def _has_more(location: str, output: str, night: str) -> bool:
    """Say whether files of a night are still to be scored; those that a finished night left out are its own run's."""
    manifest = _manifest(output, night)
    late, changed = _unscored(location, night, manifest or {"files": []})
    if changed:
        log.warning(
            "night %s: input was changed after it was scored (%s)", night, ", ".join(map(escape_control, changed[:NAMED]))
        )
    left_out = {file["path"] for file in manifest["bad_files"]} if manifest else set()
    return any(escape_control(relative) not in left_out for relative in late)


def due_nights(location: str, output: str, night: str, newest: str) -> list[str]:
    """List the nights that the run of `night` has to score, oldest first: its own unless it is whole, and missed ones.

    A night that files were left out of is thus mended by its own run, started again once they are replaced.
    """
    own = set() if is_whole(location, output, night) else {night}
    return sorted(own | set(missed_nights(location, output, newest)))
