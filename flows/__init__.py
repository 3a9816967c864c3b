"""Prefect flows: names, retries, artifacts. The work is done by stsb_batch.jobs; nothing here computes.

Offline by default, with signs of life often enough for a dead run to be found soon, and with our log lines on the run
page: set before Prefect is imported, since it reads them once.
"""

import logging
import os

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "stsb_batch")
logging.getLogger("stsb_batch").setLevel(logging.INFO)
