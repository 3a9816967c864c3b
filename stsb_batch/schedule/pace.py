"""How fast a run is and when it will be done: a line for the log now and then."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stsb_batch.report.text import duration


@dataclass
class Pace:
    """Watches a run of `rows` rows. `deadline` is the moment by which the result is needed."""

    rows: int
    deadline: dt.datetime | None = None
    every: float = 60.0
    seconds: Callable[[], float] = time.monotonic
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    done: int = 0
    began: float = field(init=False)
    last_line_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.last_line_at = self.seconds()

    def update(self, done: int) -> str | None:
        """Note how many rows are done; returns a line when the last one is `every` seconds old."""
        self.done = done
        moment = self.seconds()
        if moment - self.last_line_at < self.every or not done:
            return None
        self.last_line_at = moment
        return self.line()

    def speed(self) -> float:
        """Return rows per second so far."""
        return self.done / max(self.seconds() - self.began, 1e-9)

    def end(self) -> dt.datetime:
        """Estimate when the last row will be done."""
        return self.now() + dt.timedelta(seconds=(self.rows - self.done) / max(self.speed(), 1e-9))

    def is_late(self) -> bool:
        """Say whether the estimated end is after the deadline."""
        return self.deadline is not None and self.done > 0 and self.end() > self.deadline

    def line(self) -> str:
        """Say how far the run is, how fast, and whether it will meet its deadline."""
        end = self.end()
        left = duration((end - self.now()).total_seconds())
        text = f"{self.done:,} of {self.rows:,} rows, {self.speed():,.0f} rows/s, {left} left"
        if self.deadline is None:
            return text
        end, deadline = end.astimezone(self.deadline.tzinfo), self.deadline
        gap = duration(abs(end - deadline).total_seconds())
        verdict = f"{gap} AFTER the deadline {deadline:%H:%M}" if end > deadline else f"{gap} before {deadline:%H:%M}"
        return f"{text}, done about {end:%H:%M}, {verdict}"
