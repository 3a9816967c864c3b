"""How fast a run is and when it will be done: a line for the log now and then."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stsb_batch.report.text import duration


@dataclass
class Pace:
    """Counts rows as they are done. `done_by` is the moment at which somebody waits for the result."""

    rows: int
    done_by: dt.datetime | None = None
    every: float = 60.0
    seconds: Callable[[], float] = time.monotonic
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    done: int = 0
    began: float = field(init=False)
    said: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.said = self.seconds()

    def advance(self, rows: int) -> str | None:
        """Count rows; return a line when the last one is `every` seconds old."""
        self.done += rows
        moment = self.seconds()
        if moment - self.said < self.every or not self.done:
            return None
        self.said = moment
        return self.line()

    def speed(self) -> float:
        """Return rows per second so far."""
        return self.done / max(self.seconds() - self.began, 1e-9)

    def end(self) -> dt.datetime:
        """Estimate when the last row will be done."""
        return self.now() + dt.timedelta(seconds=(self.rows - self.done) / max(self.speed(), 1e-9))

    def is_late(self) -> bool:
        """Say whether the estimate lies behind `done_by`."""
        return self.done_by is not None and self.done > 0 and self.end() > self.done_by

    def line(self) -> str:
        """Say how far the run is, how fast, and whether it will be done in time."""
        end = self.end()
        left = duration((end - self.now()).total_seconds())
        text = f"{self.done:,} of {self.rows:,} rows, {self.speed():,.0f} rows/s, {left} left"
        if self.done_by is None:
            return text
        end, due = end.astimezone(self.done_by.tzinfo), self.done_by
        gap = duration(abs(end - due).total_seconds())
        verdict = f"{gap} AFTER {due:%H:%M}: it will be late" if end > due else f"{gap} before {due:%H:%M}"
        return f"{text}, done about {end:%H:%M}, {verdict}"
