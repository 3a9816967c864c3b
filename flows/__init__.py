"""Prefect flows: names, retries, artifacts. The work is done in stsb_batch; nothing here computes.

Prefect's files lie in our home, offline by default, with heartbeats often enough that a dead run is found soon. Set before
Prefect is imported, since it reads them once. What the library logs goes to the run page.
"""

import logging
import os

from stsb_batch.settings import load_settings, prefect_environment

os.environ.update(prefect_environment(load_settings().home))
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")  # a busy machine needs more than 20 s

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler

from stsb_batch.errors import StsbBatchError

TAG = "stsb-batch"  # of all our runs and subflows: the dead-run automation selects by it


def send_logs(name: str) -> None:
    """Send a library's INFO lines and above to the page of the flow or task that it runs in, and to the console.

    PREFECT_LOGGING_EXTRA_LOGGERS does so only where it is set before Prefect is imported, which no worker does, and leaves
    the level at WARNING. Lines from outside of a run, or from a thread that has none, have no page to go to.
    """
    library = logging.getLogger(name)
    library.setLevel(logging.INFO)
    for handler in [handler for handler in library.handlers if isinstance(handler, APILogHandler)]:
        library.removeHandler(handler)
    ours = APILogHandler()
    ours.addFilter(lambda _: bool(TaskRunContext.get() or FlowRunContext.get()))
    library.addHandler(ours)


def drop_traceback(record: logging.LogRecord) -> bool:
    """Leave out the traceback of an expected error: its message says what to do."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, StsbBatchError) and error.exit_code != StsbBatchError.exit_code:
        record.exc_info = None
    return True


for runs in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(runs).addFilter(drop_traceback)
send_logs("stsb_batch")
