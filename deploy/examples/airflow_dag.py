"""Score each day's pairs with Airflow 3. Copy this file to the DAGs folder; `stsb-batch` is on the worker's PATH.

Scores are complete with exit codes 0, 10 and 11; the last two are logged as a warning. Exit code 75 (output in use, or no
progress) is tried again. Every other code fails at once, because the same command would fail again.
"""

import datetime as dt
import logging
import subprocess

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.sdk import dag, task

PAIRS = "/srv/warehouse/pairs/{date}"
SCORES = "/srv/warehouse/scores/{date}"
WARNINGS = {10: "many rows have no score", 11: "files were left out"}
TRY_LATER = 75

log = logging.getLogger(__name__)


def run_score(pairs: str, scores: str) -> None:
    """Run the command and turn its exit code into the state of the task."""
    code = subprocess.run(["stsb-batch", "score", pairs, "-o", scores], check=False).returncode
    if code in WARNINGS:
        log.warning("%s: scored, but %s. See `stsb-batch report %s`.", pairs, WARNINGS[code], scores)
    elif code == TRY_LATER:
        raise AirflowException(f"{scores}: in use, or no progress. Airflow tries again.")
    elif code != 0:
        raise AirflowFailException(f"{pairs}: not scored (exit code {code}). The reason is the last line of the log.")


@dag(schedule="30 2 * * *", start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), catchup=False, max_active_runs=1)
def score_pairs():
    @task(retries=3, retry_delay=dt.timedelta(minutes=10))
    def score(ds: str | None = None) -> None:
        run_score(PAIRS.format(date=ds), SCORES.format(date=ds))

    score()


score_pairs()
