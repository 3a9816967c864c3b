"""End a process that makes no progress, with the stacks of all its threads in the log."""

import contextlib
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator

from stsb_batch.errors import BusyError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watchdog(limit: float) -> Iterator[Callable[[], None]]:
    """Watch a piece of work: it calls what this gives at each sign of progress, at least every `limit` seconds.

    Otherwise the process ends at once with exit code 75 (try again later): a hung kernel or file system cannot be
    interrupted from Python. Locks free themselves, what is committed stays, and the staging is swept by the next run.
    The time is told by naps of its own, so that none passes while the process is stopped (Ctrl-Z).
    """
    done, nap, naps = threading.Event(), min(1.0, limit / 4), [0]

    def watch() -> None:
        while not done.wait(nap):
            naps[0] += 1
            if naps[0] * nap > limit:
                log.critical("no progress for %.0f s; stacks of all threads follow, then the process ends", limit)
                print(f"No progress for {limit:.0f} s: stopped. Run the same command again to go on.", file=sys.stderr)
                faulthandler.dump_traceback(file=sys.__stderr__, all_threads=True)
                os._exit(BusyError.exit_code)

    def alive() -> None:
        naps[0] = 0

    thread = threading.Thread(target=watch, name="stsb-batch watchdog", daemon=True)
    thread.start()
    try:
        yield alive
    finally:
        done.set()
        thread.join()
