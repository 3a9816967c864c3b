"""Prefect flows: names, retries, artifacts. The work is done by stsb_batch.jobs; nothing here computes.

Offline by default: set before Prefect is imported, since it reads them once.
"""

import os

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "stsb_batch")
