"""Pace: how fast a run is, and whether it will meet its deadline."""

import datetime as dt

import pytest

from stsb_batch.report.text import duration
from stsb_batch.schedule.pace import Pace

NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def pace(self, rows: int, deadline: dt.datetime | None = None) -> Pace:
        return Pace(rows, deadline, seconds=lambda: self.seconds, now=lambda: NOON + dt.timedelta(seconds=self.seconds))


def test_a_line_comes_once_a_minute():
    """Before a minute has passed since the last line there is none."""
    clock = Clock()
    pace = clock.pace(1_000)
    assert pace.update(100) is None
    clock.seconds = 60
    assert pace.update(200) == "200 of 1,000 rows, 3 rows/s, 4 min left"
    assert pace.update(300) is None


@pytest.mark.parametrize(
    ("minutes", "late", "verdict"), [(30, False, "18 min before 12:30"), (10, True, "2 min AFTER the deadline 12:10")]
)
def test_the_line_says_whether_it_will_be_done_in_time(minutes: int, late: bool, verdict: str):
    """The estimated end is compared with the deadline."""
    clock = Clock()
    pace = clock.pace(12_000, NOON + dt.timedelta(minutes=minutes))
    clock.seconds = 120
    assert verdict in pace.update(2_000)
    assert pace.is_late() is late


def test_nothing_is_late_before_the_first_row():
    """Without a row there is no speed to judge by."""
    assert not Clock().pace(10, NOON - dt.timedelta(hours=1)).is_late()


@pytest.mark.parametrize(("seconds", "text"), [(90, "90 s"), (600, "10 min"), (7_500, "2 h 05 min")])
def test_spans_read_well(seconds: int, text: str):
    """Seconds, minutes, or hours and minutes."""
    assert duration(seconds) == text
