"""The night in a test server: which nights are scored, when the model is refreshed, what people decide."""

import datetime as dt
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest
from prefect.events.filters import EventFilter, EventNameFilter

from flows import TAG, events
from flows.nightly import run_night
from flows.promote import promote_flow, rollback_flow
from flows.refresh import refresh_flow
from flows.score import score_flow
from stsb_batch.models import decisions, registry
from stsb_batch.refresh.job import plan_refresh
from stsb_batch.requests import RefreshRequest
from stsb_batch.schedule.run_dates import output_of
from tests.builders import add_version, made_from_plan, make_pairs
from tests.flows.team import read, write_many


def date(days_ago: int) -> str:
    return (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=days_ago)).isoformat()


def is_done(output: str, night: str) -> bool:
    """Say whether a night has been scored to its end."""
    return (output_of(output, night) / "_SUCCESS").is_file()


@pytest.fixture
def warehouse(harness, plain_engine, champion, tmp_path: Path) -> tuple[str, str]:
    """Return pairs for the last four nights, and where scores go."""
    for days in range(4):
        make_pairs(20, seed=days).write_parquet(tmp_path / f"in/{date(days)}/part.parquet", mkdir=True)
    return str(tmp_path / "in/{night}"), str(tmp_path / "out")


def told(event: str, text: str) -> bool:
    """Say whether such an event with this text reaches the server within some seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = read("events", filter=EventFilter(event=EventNameFilter(name=[event])), limit=50).events
        if any(text in one.payload["message"] for one in found):
            return True
        time.sleep(0.2)
    return False


def test_each_night_is_scored_once_and_missed_ones_into_their_own_folders(warehouse):
    """The first run scores its own night; one days later also those between; one more finds all done and says so."""
    location, output = warehouse
    assert run_night(location, output, date(3), return_state=True).name == "Completed"
    assert [is_done(output, date(days)) for days in range(4)] == [False, False, False, True]
    night = run_night(location, output, return_state=True)
    assert [is_done(output, date(days)) for days in range(4)] == [True] * 4
    assert night.message.count("20 rows scored") == 3
    again = run_night(location, output, return_state=True)
    assert (again.name, "was done before" in again.message) == ("Completed, done before", True)
    assert {f"night {date(0)} with sts@1", f"night {date(0)}"} <= {run.name for run in read("flow_runs")}
    scores = [run for run in read("flow_runs") if run.name.startswith(f"score {location.partition('{')[0]}")]
    assert [run.tags for run in scores] == [[TAG]] * 4


def test_a_file_that_comes_late_is_scored(warehouse):
    """Kind: done by name alone. A later night's run scores what came into a done one, and says so; then all is done."""
    location, output = warehouse
    run_night(location, output, date(1))
    make_pairs(7, seed=9).write_parquet(Path(location.format(night=date(1)), "late.parquet"))
    night = run_night(location, output, date(0), return_state=True)
    assert f"27 rows scored into {output_of(output, date(1))}" in night.message
    assert pl.scan_parquet(f"{output}/{date(1)}/*.parquet").select(pl.len()).collect().item() == 27
    assert run_night(location, output, date(1), return_state=True).name == "Completed, done before"


def test_the_date_of_a_pattern_is_a_partition_column(warehouse, tmp_path: Path):
    """Kind: readers of a warehouse. With `-o scores/night={night}` DuckDB and Polars see the date of each row, and a second
    run finds its nights done there."""
    location, output = warehouse[0], f"{warehouse[1]}/night={{night}}/"
    run_night(location, output, date(2))
    run_night(location, output, date(1))
    assert run_night(location, output, date(1), return_state=True).name == "Completed, done before"
    expected = [(dt.date.fromisoformat(date(days)), 20) for days in (2, 1)]
    files = f"{warehouse[1]}/**/[!_]*.parquet"
    query = "select night, count(score) from read_parquet($files, hive_partitioning = true) group by night order by night"
    assert duckdb.execute(query, {"files": files}).fetchall() == expected
    found = pl.read_parquet(files, hive_partitioning=True, try_parse_hive_dates=True)
    assert found.group_by("night").agg(pl.col("score").count()).sort("night").rows() == expected


def test_a_bad_night_does_not_keep_the_others_waiting(warehouse, tmp_path: Path):
    """When a missed night cannot be scored the run fails with its error, and the other nights are there."""
    location, output = warehouse
    run_night(location, output, date(3))
    (tmp_path / f"in/{date(2)}/part.parquet").write_bytes(b"PAR1")
    state = run_night(location, output, return_state=True)
    assert state.is_failed()
    assert "part.parquet" in state.message
    assert [is_done(output, date(days)) for days in range(3)] == [True, True, False]


def test_a_refresh_that_is_not_due_trains_nothing(warehouse, bert: Path, tmp_path: Path, settings):
    """With new labels and a model made just now nothing is trained before the days are over."""
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    labels = {"labels": str(tmp_path / "labels.parquet"), "base_model": str(bert)}
    assert run_night(*warehouse, date(0), **labels, return_state=True).name == "Completed"
    assert [version.reference for version in registry.list_versions(settings.home)] == ["sts@1"]


def test_a_due_refresh_comes_before_the_scores(warehouse, bert: Path, tmp_path: Path, settings):
    """With new labels and no days to wait a model is trained and gated, and the night is scored by the champion then."""
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    labels = {"labels": str(tmp_path / "labels.parquet"), "base_model": str(bert), "refresh_days": 0}
    state = run_night(*warehouse, date(0), **labels, return_state=True)
    assert state.is_completed()
    versions = registry.list_versions(settings.home)
    assert len(versions) == 2
    refused = not versions[1].card["gate"]["passed"]  # either verdict is right for these made-up labels
    assert ("gate refused" in state.name) is refused
    assert told(events.GATE_REFUSED, "sts@2 was refused, the champion stays: ") or not refused


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a first ring that fell into a destructor
def test_a_refresh_that_takes_too_long_is_given_up(warehouse, bert: Path, tmp_path: Path, settings):
    """After its hours the refresh has failed, the champion scores, and an event tells it."""
    make_pairs(3_000).write_parquet(tmp_path / "labels.parquet")
    labels = {"labels": str(tmp_path / "labels.parquet"), "base_model": str(bert), "refresh_days": 0}
    state = run_night(*warehouse, date(0), **labels, refresh_hours=1 / 3600, return_state=True)
    assert state.name == "Completed, refresh failed"
    assert is_done(warehouse[1], date(0))
    assert len(registry.list_versions(settings.home)) == 1
    assert told(events.REFRESH_FAILED, "the champion stays")


def test_a_night_that_takes_too_long_fails_and_can_be_run_again(warehouse, tmp_path: Path):
    """Beyond its hours the scoring is stopped with a message that says what to do; the next run does the night."""
    location, output = warehouse
    write_many(tmp_path / f"in/{date(0)}/part.parquet", 200_000)
    state = run_night(location, output, date(0), score_hours=3 / 3600, return_state=True)
    assert state.is_failed()
    assert "Run it again to continue" in state.message
    make_pairs(20).write_parquet(tmp_path / f"in/{date(0)}/part.parquet")
    assert run_night(location, output, date(0), return_state=True).is_completed()


def test_many_rows_without_a_score_are_told(harness, plain_engine, champion, tmp_path: Path):
    """A run above its warn limit emits an event that names the figures; lenient it ends with 0, strict it fails."""
    blank = pl.when(pl.col("id") < 3).then(None).otherwise(pl.col("sentence1"))
    make_pairs(100).with_columns(sentence1=blank).write_parquet(tmp_path / "in.parquet")
    places = (str(tmp_path / "in.parquet"), str(tmp_path / "out"))
    state = score_flow(*places, return_state=True)
    assert (state.name, state.result()["exit_code"]) == ("Completed, many rows without a score", 10)
    assert told(events.BAD_ROWS, "3 of 100 rows (3.00%) have no score (NULL_INPUT 3), the limit is 1.00% (--warn-bad-rows)")
    assert score_flow(*places, strictness="lenient")["exit_code"] == 0
    assert score_flow(*places, strictness="strict", return_state=True).is_failed()


def test_manual_approval_without_a_deployment_promotes_nothing(harness, bert: Path, tmp_path: Path, settings):
    """A refresh run by hand cannot wait for an answer: the model is kept, and the state says that it awaits approval."""
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    made_from_plan(plan_refresh(RefreshRequest(str(tmp_path / "labels.parquet"), str(bert))), bert, settings.home)
    state = refresh_flow(str(tmp_path / "labels.parquet"), str(bert), approval="manual", return_state=True)
    assert state.name == "Completed, awaits approval"
    assert registry.champions(settings.home)["stack"] == []


def test_rollback_leaves_a_champion_whose_card_is_damaged(harness, champion, bert: Path, settings):
    """The way back does not need the card of what is left."""
    left = add_version(settings.home, bert, mark=" ")
    registry.promote(settings.home, left, "test")
    (left.path / "card.json").write_text("{")
    rollback_flow(by="Kim", reason="exit code 20")
    assert registry.champions(settings.home)["stack"] == ["sts@1"]


def test_promote_and_rollback_by_hand_say_who(harness, champion, bert: Path, settings):
    """The newest version that passed becomes champion, and the one before it again; the cards keep who and why."""
    newest = add_version(settings.home, bert, mark=" ")
    promote_flow(by="Kim", reason="better on titles")
    assert registry.champions(settings.home)["stack"] == ["sts@1", "sts@2"]
    rollback_flow(by="Kim", reason="complaints")
    assert registry.champions(settings.home)["stack"] == ["sts@1"]
    kept = [(entry["decision"], entry["by"], entry["reason"]) for entry in decisions.decisions(newest)]
    assert kept == [("promote", "Kim", "better on titles"), ("rollback", "Kim", "complaints")]
