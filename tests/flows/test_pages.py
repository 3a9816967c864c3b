"""What a run leaves on its page: the report against the night before, its shards, the drift event, the library's log."""

import logging
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.events.filters import EventFilter, EventNameFilter

from flows.events import DRIFT
from flows.score import score_flow
from tests.builders import make_pairs

UNHEARD_OF = "swordfish"


def score_night(tmp_path: Path, night: str, pairs: pl.DataFrame, **options) -> str:
    """Score a night as a flow and return the id of its run."""
    pairs.write_parquet(tmp_path / f"in/night={night}/part.parquet", row_group_size=50, mkdir=True)
    state = score_flow(str(tmp_path / f"in/night={night}"), str(tmp_path / f"out/{night}"), return_state=True, **options)
    return str(state.state_details.flow_run_id)


def artifacts(run: str) -> dict[str, str]:
    with get_client(sync_client=True) as client:
        return {one.key: one.data for one in client.read_artifacts() if str(one.flow_run_id) == run}


def log_lines(run: str) -> list:
    with get_client(sync_client=True) as client:
        return client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])))


def eventually(read, *, seconds: float = 60):
    """Wait for what reaches the server in batches."""
    deadline = time.monotonic() + seconds
    while not (found := read()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


def test_a_moved_night_says_so_on_its_page_and_as_an_event(harness, plain_engine, champion, tmp_path: Path):
    """The second of two nights, of longer texts, has last night and FAIL on its page, and raises one drift event."""
    first = score_night(tmp_path, "2026-01-01", make_pairs(100))
    doubled = make_pairs(100).with_columns(sentence1=pl.col("sentence1") + " " + pl.col("sentence2"))
    second = score_night(tmp_path, "2026-01-02", doubled)
    assert "first run of its series" in artifacts(first)["score-report"]
    page = artifacts(second)["score-report"]
    assert page.startswith("**2026-01-02: 100 rows by sts@1")
    assert "lengths moved (KS)" in page.splitlines()[0]
    assert "| | | 2026-01-02 | 2026-01-01 | limit |" in page
    assert page.count("(data:image/svg+xml;base64,") == 2

    def told() -> list:
        with get_client(sync_client=True) as client:
            found = client.read_events(EventFilter(event=EventNameFilter(name=[DRIFT])), limit=50).events
        return [event for event in found if event.payload["run"] in (first, second)]

    (event,) = eventually(told)
    assert "lengths moved (KS)" in event.payload["message"]
    assert event.resource.id == f"{DRIFT}.{second}"


def test_the_report_is_on_the_page_of_the_night(harness, plain_engine, champion, tmp_path: Path):
    """A report made inside of another run, as the night's is, stands on that run's page, where people look first."""
    make_pairs(50).write_parquet(tmp_path / "in/part.parquet", mkdir=True)

    @flow
    def night() -> None:
        score_flow(str(tmp_path / "in"), str(tmp_path / "out"))

    outer = str(night(return_state=True).state_details.flow_run_id)
    assert set(artifacts(outer)) == {"score-report"}
    assert eventually(lambda: [line for line in log_lines(outer) if "50 rows by sts@1" in line.message])


def test_library_logs_reach_the_run_and_hold_no_text(
    harness, plain_engine, champion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The run's log has a line for each shard, few others of ours, and nothing of any text, whatever is wrong with it."""
    monkeypatch.setenv("STSB_BATCH_SHARD_ROWS", "50")
    pairs = make_pairs(200).with_columns(
        sentence1=pl.when(pl.col("id") % 50 == 0).then(None).otherwise(pl.lit(UNHEARD_OF) + " " + pl.col("sentence1"))
    )
    run = score_night(tmp_path, "2026-02-01", pairs)

    def all_lines() -> list:
        found = log_lines(run)
        return found if sum(line.name.startswith("stsb_batch") for line in found) >= 4 else []

    found = eventually(all_lines)
    ours = [line for line in found if line.name.startswith("stsb_batch")]
    assert [line.message.split(":")[0] for line in ours] == [f"part-0000{n}-of-00004.parquet" for n in range(1, 5)]
    assert all(line.level == logging.INFO for line in ours)
    assert UNHEARD_OF not in "".join(line.message for line in found)
    assert UNHEARD_OF not in str(artifacts(run))


@pytest.mark.parametrize("first", ["flows", "prefect"])
def test_logs_are_sent_whoever_is_imported_first(first: str):
    """A worker imports Prefect before the flows: the library's lines are sent all the same, at INFO, and once."""
    code = (
        f"import {first}, flows, logging; ours = logging.getLogger('stsb_batch'); "
        "print(ours.level, *[type(handler).__name__ for handler in ours.handlers])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "20 APILogHandler\n"


def test_logs_from_outside_of_a_run_go_nowhere():
    """A line that belongs to no run is not sent, and nobody is warned of it."""
    (handler,) = logging.getLogger("stsb_batch").handlers
    assert not handler.filter(logging.makeLogRecord({"name": "stsb_batch.jobs", "msg": "x"}))
