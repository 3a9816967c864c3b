"""The flows on Prefect's own parts: in a test server, and with no server configured."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from prefect import flow

from flows import timeout
from flows.nightly import run_night, run_night_here
from flows.refresh import refresh_flow
from flows.score import is_worth_retrying, score_flow
from stsb_batch.errors import BadDataError, BusyError, StorageError, StsbBatchError
from stsb_batch.models.registry import champions
from stsb_batch.requests import nightly_request
from tests.builders import make_pairs
from tests.flows.team import read

NIGHT = "2026-01-02"


def test_score_flow_has_a_task_per_shard_and_two_artifacts(harness, plain_engine, champion, tmp_path: Path, monkeypatch):
    """Scoring two shards gives a run and tasks with telling names, a markdown report and a table of shards."""
    monkeypatch.setenv("STSB_BATCH_SHARD_ROWS", "100")
    make_pairs(200).write_parquet(tmp_path / "in/part.parquet", row_group_size=100, mkdir=True)
    done = score_flow(str(tmp_path / "in"), str(tmp_path / "out"))
    assert done == {
        "output": str(tmp_path / "out"),
        "rows": 200,
        "rows_without_score": 0,
        "files_left_out": 0,
        "warnings": [],
        "exit_code": 0,
    }
    assert (tmp_path / "out/_SUCCESS").exists()
    names = {run.name for run in read("task_runs")}
    assert {f"score part-0000{n}-of-00002.parquet (100 rows)" for n in (1, 2)} | {"commit and report"} <= names
    [run] = [run for run in read("flow_runs") if run.name == f"score {tmp_path}/in with sts@1"]
    shown = {artifact.key: artifact for artifact in read("artifacts") if artifact.flow_run_id == run.id}
    assert "Pearson" in shown["score-report"].data
    assert "part-00002-of-00002" in str(shown["score-shards"].data)


def test_state_says_what_was_left_out(harness, plain_engine, champion, tmp_path: Path):
    """A run that left a bad file out is Completed under a name that says so, and its night, which makes up for it later."""
    make_pairs(50).write_parquet(tmp_path / "in/a.parquet", mkdir=True)
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    state = score_flow(str(tmp_path / "in"), str(tmp_path / "out"), return_state=True)
    assert (state.is_completed(), state.name) == (True, "Completed, files left out")
    night = run_night(str(tmp_path / "in"), str(tmp_path / "nights"), NIGHT, return_state=True)
    assert night.name == "Completed, files left out"
    by_hand = nightly_request({"location": str(tmp_path / "in"), "output": str(tmp_path / "nights"), "night": NIGHT})
    assert run_night_here(by_hand) == 11
    make_pairs(20).write_parquet(tmp_path / "in/b.parquet")
    assert run_night_here(by_hand) == 0
    assert pl.read_parquet(tmp_path / f"nights/{NIGHT}/[!_]*.parquet")["score"].len() == 70


def test_limits_of_a_night_can_be_raised_and_its_error_names_it(harness, plain_engine, champion, tmp_path: Path, caplog):
    """More bad files than the default allows fail the night, with no traceback; with a limit of half of them it runs."""
    make_pairs(50).write_parquet(tmp_path / "in/a.parquet", mkdir=True)
    for name in ("b", "c"):
        (tmp_path / f"in/{name}.parquet").write_bytes(b"PAR1")
    state = run_night(str(tmp_path / "in"), str(tmp_path / "out"), NIGHT, return_state=True)
    with pytest.raises(BadDataError, match=rf"(?s)night {NIGHT}: b\.parquet.*2 of 3 files are bad, 1 may be"):
        state.result()
    assert not [record for record in caplog.records if record.exc_info]
    options = {"location": str(tmp_path / "in"), "output": str(tmp_path / "out"), "night": NIGHT, "max_bad_files": 0.7}
    assert run_night_here(nightly_request(options)) == 11


def test_timeout_holds_when_its_first_alarm_is_lost(harness):
    """An alarm whose error is dropped, as in a destructor, fires again and ends the run."""
    ended = []

    @flow(timeout_seconds=0.5, persist_result=False)
    def slow() -> None:
        timeout.rearm_timeout(0.5)
        with contextlib.suppress(asyncio.CancelledError):
            time.sleep(60)
        time.sleep(60)
        ended.append(True)

    assert slow(return_state=True).name == "TimedOut"
    assert not ended
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_refresh_flow_promotes_and_does_not_train_twice(harness, plain_engine, bert: Path, tmp_path: Path, settings):
    """The refresh flow trains, gates and promotes; the same labels again are left alone."""
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    first = refresh_flow(str(tmp_path / "labels.parquet"), str(bert))
    again = refresh_flow(str(tmp_path / "labels.parquet"), str(bert))
    assert (first["model"], first["trained"], again["trained"]) == ("sts@1", True, False)
    assert champions(settings.home)["stack"] == (["sts@1"] if first["passed"] else [])
    assert any(artifact.key == "refresh-report" and "sts@1" in artifact.data for artifact in read("artifacts"))


def test_own_pairs_reach_the_silver_stage(harness, bert: Path, tmp_path: Path):
    """The form's field for own pairs is passed on: a recipe without a silver stage refuses it before it trains."""
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    labels = str(tmp_path / "labels.parquet")
    state = refresh_flow(labels, str(bert), unlabelled=labels, return_state=True)
    assert state.is_failed()
    assert "recipe with a silver stage" in state.message


def test_labels_that_leak_are_refused_by_name(harness, plain_engine, champion, bert: Path, tmp_path: Path, settings):
    """Test pairs that are also in train end the refresh, and a night's, as refused by the gate; the night is scored."""
    pairs = make_pairs(100)
    split = [pairs.with_columns(pl.lit(name).alias("split")) for name in ("train", "val", "test")]
    pl.concat(split).write_parquet(tmp_path / "labels.parquet")
    pairs.write_parquet(tmp_path / f"in/night={NIGHT}/part.parquet", mkdir=True)
    labels, location = str(tmp_path / "labels.parquet"), f"{tmp_path}/in/night={{night}}"
    assert refresh_flow(labels, str(bert), return_state=True).name == "Completed, gate refused"
    state = run_night(location, str(tmp_path / "out"), NIGHT, labels=labels, base_model=str(bert), return_state=True)
    assert state.name == "Completed, gate refused"
    assert pl.read_parquet(tmp_path / f"out/{NIGHT}/part.parquet")["score"].null_count() == 0
    assert champions(settings.home)["stack"] == ["sts@1"]


def test_night_scores_with_the_champion_when_the_refresh_fails(harness, plain_engine, champion, tmp_path: Path):
    """Broken labels do not keep the night's scores waiting; the state's name says that the refresh failed."""
    make_pairs(50).write_parquet(tmp_path / f"in/night={NIGHT}/part.parquet", mkdir=True)
    make_pairs(50).drop("label").write_parquet(tmp_path / "labels.parquet")
    location = f"{tmp_path}/in/night={{night}}"
    state = run_night(location, str(tmp_path / "out"), NIGHT, labels=str(tmp_path / "labels.parquet"), return_state=True)
    assert state.is_completed()
    assert "refresh failed" in state.name
    assert pl.read_parquet(tmp_path / f"out/{NIGHT}/part.parquet")["score"].null_count() == 0


def test_night_without_input_fails(harness, plain_engine, champion, tmp_path: Path):
    """A night whose input is missing ends as Failed, with the message of the error."""
    state = run_night(str(tmp_path / "nowhere"), str(tmp_path / "out"), NIGHT, return_state=True)
    assert state.is_failed()
    assert "no such file or folder" in state.message


@pytest.mark.parametrize(
    ("error", "retried"), [(BusyError, True), (StorageError, True), (BadDataError, False), (StsbBatchError, False)]
)
def test_only_faults_that_pass_are_retried(error: type[StsbBatchError], retried: bool):
    """Held locks and storage are tried again; bad data and bugs are not."""

    class Failed:
        def result(self, raise_on_failure: bool) -> Exception:
            return error("x")

    assert is_worth_retrying(None, None, Failed()) is retried


def nightly(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run `stsb-batch nightly` in a fresh process with its own Prefect home."""
    make_pairs(50).write_parquet(tmp_path / "in/part.parquet", mkdir=True)
    command = [
        sys.executable,
        "-m",
        "stsb_batch",
        "nightly",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "--night",
        NIGHT,
    ]
    own = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(command, capture_output=True, text=True, env=clean | own | environment, check=False)


def test_nightly_runs_with_no_server_configured(plain_engine, champion, tmp_path: Path):
    """`stsb-batch nightly` needs no server: Prefect's ephemeral mode is enough, and nothing is sent anywhere."""
    done = nightly(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"out/{NIGHT}/_SUCCESS").exists()
    assert "telemetry" not in done.stderr
