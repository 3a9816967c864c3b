"""How far a scoring run is, for all who want to know; and the end of a process that makes no progress."""

import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from stsb_batch.errors import BusyError

log = logging.getLogger(__name__)


class RunMonitor:
    """Counts what a run has done. The watchdog, the time of the first score and `on_progress` (a bar, a log) read it.

    `total_rows` are those to be scored. `on_progress(monitor)` is called at the start and, in the scoring thread, after each
    finished batch.
    """

    def __init__(self, total_rows: int = 0, on_progress: Callable[["RunMonitor"], None] | None = None) -> None:
        self.total_rows, self.rows, self.tokens, self.beats = total_rows, 0, 0, 0
        self.first_score_at: float | None = None  # Unix time
        self._on_progress, self._lock = on_progress, threading.Lock()
        self._show()

    def add(self, rows: int, tokens: int) -> None:
        """Count a finished batch."""
        self.beat()
        self.rows, self.tokens = self.rows + rows, self.tokens + tokens
        if self.first_score_at is None:
            self.first_score_at = time.time()
        self._show()

    def _show(self) -> None:
        if self._on_progress:
            self._on_progress(self)

    def beat(self) -> None:
        """Note progress that is not counted in rows, from any thread."""
        with self._lock:
            self.beats += 1


@contextlib.contextmanager
def watchdog(monitor: RunMonitor, limit: float) -> Iterator[None]:
    """End the process with exit code 75 (try again later) when the monitor stands still for `limit` seconds.

    At once and with the stacks of all threads in the log: a hung kernel or file system cannot be interrupted from Python.
    Locks free themselves, what is committed stays, and the next run removes the staging. Time is counted in naps of the
    watchdog's own, so that none passes while the process is stopped (Ctrl-Z).
    """
    done, nap = threading.Event(), min(1.0, limit / 4)

    def watch() -> None:
        naps, seen = 0, monitor.beats
        while not done.wait(nap):
            naps, seen = (naps + 1, seen) if monitor.beats == seen else (0, monitor.beats)
            if naps * nap > limit:
                log.critical("no progress for %.0f s; stacks of all threads follow, then the process ends", limit)
                print(f"No progress for {limit:.0f} s: stopped. Run the same command again to go on.", file=sys.stderr)
                faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
                os._exit(BusyError.exit_code)

    thread = threading.Thread(target=watch, name="stsb-batch watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
