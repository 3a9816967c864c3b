"""The whole path of a team: PostgreSQL, server, work pool, worker, alerts, approval; what dies and what comes of it."""

import datetime as dt
import json
import os
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.deployments import DEPLOY, apply_automations
from flows.events import BAD_ROWS, DRIFT, GATE_REFUSED, LATE, REFRESH_FAILED, WAITING
from flows.serve import SERVER_SETTINGS
from stsb_batch.models import decisions, registry
from stsb_batch.refresh.job import refresh
from stsb_batch.requests import RefreshRequest
from stsb_batch.settings import Settings
from tests.builders import add_version, make_champion, make_pairs
from tests.flows.team import (
    Api,
    free_port,
    postgres,
    prefect,
    processes_of,
    program,
    receiver,
    stsb_batch,
    wait_until,
    write_many,
)

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NIGHT = "2026-01-02"


@dataclass
class Team:
    """What a test needs to know of the installation."""

    api: Api
    home: Path
    folder: Path
    environment: dict[str, str]
    alerts: list[dict]

    def alert(self, name: str, run: str = "", *, seconds: float = 60) -> dict:
        """Wait for an alert of that name about that run."""

        def arrived() -> dict | None:
            return next((one for one in list(self.alerts) if name in one["alert"] and run in one["key"]), None)

        return wait_until(arrived, seconds=seconds, what=f"alert {name}")

    def worker(self):
        """Run a worker of the pool."""
        command = prefect("worker", "start", "--pool", "stsb-batch", "--install-policy", "never")
        return program(command, log=self.folder / "worker.log", environment=self.environment)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Iterator[Team]:
    """PostgreSQL, a server on it, deployments and automations registered by the command line, a receiver, a champion."""
    folder = tmp_path_factory.mktemp("team")
    home = folder / "home"
    make_champion(home, bert)
    make_pairs(100).write_parquet(folder / f"in/{NIGHT}/part.parquet", mkdir=True)
    with postgres() as database, receiver() as (webhook, alerts):
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        environment = {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": f"{address}/api",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "STSB_BATCH_HOME": str(home),
            "STSB_BATCH_ENGINE": "torch",
            "STSB_BATCH_PRECISION": "fp32",
        }
        server_settings = SERVER_SETTINGS | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_UI_URL": address,
        }
        command = prefect("server", "start", "--host", "127.0.0.1", "--port", str(port))
        with program(command, log=folder / "server.log", environment=server_settings):
            api = Api(f"{address}/api")
            wait_until(lambda: api.get("/health"), seconds=180, what="the server answers")
            yield Team(register(api, folder, environment, webhook), home, folder, environment, alerts)


def register(api: Api, folder: Path, environment: dict[str, str], webhook: str | None = None) -> Api:
    """Put the deployments and automations on the server with the command that the deploy guide names."""
    command = stsb_batch(
        "serve", "--register-only", folder / "in/{night}", "-o", folder / "out", "--timezone", "Europe/Berlin"
    )
    more = ["--webhook", webhook] if webhook else []
    done = subprocess.run([*command, *more], env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return api


def test_applying_again_doubles_nothing(team: Team):
    """The command twice more, and Prefect's own deploy of the same file, leave five deployments and ten automations."""
    for _ in range(2):
        register(team.api, team.folder, team.environment)
    command = prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOY / "prefect.yaml"))
    subprocess.run(command, env=os.environ | team.environment, cwd=ROOT, check=True, capture_output=True)
    names = [one["name"] for one in team.api.post("/deployments/filter")]
    assert sorted(names) == ["nightly", "promote", "refresh", "rollback", "score"]
    automations = [one["name"] for one in team.api.post("/automations/filter")]
    assert len(automations) == len(set(automations)) == 10
    register(team.api, team.folder, team.environment)
    ahead = wait_until(
        lambda: team.api.post("/flow_runs/filter", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}}),
        seconds=90,
        what="runs are scheduled",
    )
    starts = Counter(run["expected_start_time"] for run in ahead)
    assert set(starts.values()) == {1}


def test_a_night_runs_through_pool_and_worker(team: Team):
    """A run that is started on the server is taken by the worker; scores, artifacts and our log lines are there."""

    def line_is_there() -> bool:
        logged = [line["message"] for line in team.api.post("/logs/filter")]
        return any(line.startswith("part.parquet: 100 rows in") for line in logged)

    with team.worker():
        run = team.api.start("nightly", night=NIGHT)
        state = team.api.wait(run, "Completed", "Failed", "Crashed")
        # lines are sent some seconds after the state, by the run's process, which ends with a worker that is stopped
        wait_until(line_is_there, seconds=30, what="our log line is on the server")
    assert state["name"] == f"night {NIGHT} with sts@1"
    assert state["state"]["message"].startswith("100 rows scored")
    assert (team.folder / f"out/{NIGHT}/_SUCCESS").is_file()
    keys = {artifact["key"] for artifact in team.api.post("/artifacts/filter")}
    assert {"score-report", "score-shards"} <= keys


def test_a_second_run_is_cancelled_and_a_killed_one_crashes_at_once(team: Team):
    """Of two overlapping nights one runs; when its process is killed the worker sees it, and an alert comes."""
    write_many(team.folder / "many/part.parquet", 600_000)
    with team.worker():
        run = team.api.start("nightly", location=str(team.folder / "many"), output=str(team.folder / "killed"))
        team.api.wait(run, "Running")
        second = team.api.start("nightly", night=NIGHT)
        assert team.api.wait(second, "Cancelled")["state"]["message"] == "Deployment concurrency limit reached."
        seconds = kill(team, run, processes_of(run))
    assert seconds < 30
    assert "is Crashed" in team.alert("run failed", run)["text"]
    figure("flow process killed", seconds)


def test_a_run_that_loses_its_worker_crashes_at_its_next_line(team: Team):
    """When only the worker is killed the run has nowhere to write to: it ends itself, at the latest a minute later."""
    with team.worker() as worker:
        run = team.api.start("nightly", location=str(team.folder / "many"), output=str(team.folder / "alone"))
        team.api.wait(run, "Running")
        seconds = kill(team, run, [worker.pid])
    assert seconds < 120
    assert "is Crashed" in team.alert("run failed", run)["text"]
    figure("worker killed", seconds)


def test_a_run_that_dies_with_its_worker_crashes_by_its_silence_and_blocks_nobody(team: Team):
    """Without anybody to see it, a dead run is Crashed within two minutes; the next one goes on where it was."""
    parameters = {"location": str(team.folder / "many"), "output": str(team.folder / "dead")}
    with team.worker() as worker:
        run = team.api.start("nightly", **parameters)
        team.api.wait(run, "Running")
        time.sleep(5)
        seconds = kill(team, run, [worker.pid, *processes_of(run)])
    assert seconds < 120
    assert "No heartbeat for 90 s" in team.alert("run failed", run)["text"]
    figure("worker and flow process killed", seconds)
    with team.worker():
        after = team.api.start("nightly", night=NIGHT)
        assert team.api.wait(after, "Completed, done before")


def kill(team: Team, run: str, processes: list[int]) -> float:
    """Kill processes and return the seconds until the run is Crashed."""
    assert processes
    began = time.monotonic()
    for process in processes:
        os.kill(process, signal.SIGKILL)
    team.api.wait(run, "Crashed", seconds=150)
    return time.monotonic() - began


def figure(name: str, value: float) -> None:
    """Show a figure that was measured (pytest -s)."""
    print(f"FIGURE {name}: {value:.1f}")


@pytest.fixture
def passed(team: Team, bert: Path) -> tuple[registry.Version, dict]:
    """Return a version that waits for its promotion, and the parameters of the refresh that finds it again."""
    labels = team.folder / f"labels-{len(registry.list_versions(team.home))}.parquet"
    make_pairs(200, seed=len(registry.list_versions(team.home))).write_parquet(labels)
    settings = Settings(home=team.home, engine="torch", precision="fp32")
    made = refresh(RefreshRequest(str(labels), str(bert), settings=settings), dry_run=True).version
    (made.path / "card.json").write_text(json.dumps(made.card | {"gate": made.card["gate"] | {"passed": True}}))
    return made, {"labels": str(labels), "base_model": str(bert), "approval": "manual"}


def answer(team: Team, run: str, **form: str) -> dict:
    return team.api.post(f"/flow_runs/{run}/resume", run_input=form)


def test_a_refresh_waits_for_approval_without_a_process(team: Team, passed):
    """The run is suspended with its form and holds no process; a bad answer changes nothing, a good one promotes."""
    version, parameters = passed
    with team.worker():
        run = team.api.start("refresh", **parameters)
        team.api.wait(run, "Suspended")
        wait_until(lambda: not processes_of(run), seconds=30, what="the process ends")
        assert version.reference in team.alert("awaits approval", run)["text"]
        answer(team, run, decision="promote", name="", reason="")
        assert team.api.run(run)["state_name"] == "Suspended"
        time.sleep(100)  # longer than a run may be silent
        assert team.api.run(run)["state_name"] == "Suspended"
        answer(team, run, decision="promote", name="Kim", reason="better on titles")
        team.api.wait(run, "Completed, approved")
    assert registry.champions(team.home)["stack"][-1] == version.reference
    kept = [(entry["decision"], entry["by"], entry["reason"]) for entry in decisions.decisions(version)]
    assert kept == [("promote", "Kim", "better on titles")]


def test_a_rejected_model_is_not_asked_about_again(team: Team, passed):
    """The rejection stands on the card, the champion stays, and the same refresh asks nobody any more."""
    version, parameters = passed
    champion = registry.champions(team.home)["stack"]
    with team.worker():
        run = team.api.start("refresh", **parameters)
        team.api.wait(run, "Suspended")
        answer(team, run, decision="reject", name="Kim", reason="too few labels")
        team.api.wait(run, "Completed, rejected")
        team.api.wait(team.api.start("refresh", **parameters), "Completed, rejected")
    assert registry.champions(team.home)["stack"] == champion
    assert decisions.is_rejected(version)


def test_rollback_and_promote_take_one_run_each(team: Team, bert: Path):
    """Without any parameter, rollback leaves the champion and promote takes the newest version that passed."""
    newest = add_version(team.home, bert, mark="  ")
    before = registry.champions(team.home)["stack"]
    with team.worker():
        team.api.wait(team.api.start("promote"), "Completed")
        assert registry.champions(team.home)["stack"] == [*before, newest.reference]
        team.api.wait(team.api.start("rollback"), "Completed")
        assert registry.champions(team.home)["stack"] == before


def test_each_event_alerts_once(team: Team):
    """Drift, gate, bad rows, lateness, a failed refresh and a waiting model reach the receiver; a key counts once."""
    events = [DRIFT, GATE_REFUSED, BAD_ROWS, LATE, REFRESH_FAILED, WAITING]
    before = len(team.alerts)
    for run in ("first", "second"):
        for event in events:
            emit(team, event, run)
    wait_until(lambda: len({one["key"] for one in team.alerts[before:]}) == 12, seconds=60, what="12 alerts")
    time.sleep(5)
    arrived = [one["key"] for one in team.alerts[before:]]
    assert {key.split("/")[1] for key in arrived} == {f"{event}.{run}" for event in events for run in ("first", "second")}
    assert all("something happened" in one["text"] for one in team.alerts[before:])
    figure("alerts sent", 12)
    figure("alerts received", len(arrived))
    figure("alerts after dropping keys seen", len(set(arrived)))


def emit(team: Team, event: str, run: str) -> None:
    """Send an event to the server as a flow does."""
    body = {"event": event, "resource": {"prefect.resource.id": f"{event}.{run}"}, "id": str(uuid.uuid4())}
    body |= {"payload": {"message": "something happened", "run": run}, "occurred": dt.datetime.now(dt.UTC).isoformat()}
    httpx.post(f"{team.api.address}/events", json=[body]).raise_for_status()


def test_nights_that_take_too_long_or_never_end_well_are_told(team: Team, tmp_path: Path):
    """With the hours of both automations made seconds, a night that runs on and the lack of completed ones alert."""
    wanted = yaml.safe_load((DEPLOY / "automations.yaml").read_text())
    for automation in wanted["automations"]:
        if automation["trigger"].get("within", 0) > 3600:
            automation["trigger"]["within"] = 15
    (tmp_path / "automations.yaml").write_text(yaml.safe_dump(wanted))
    with temporary_settings({PREFECT_API_URL: team.api.address}):
        apply_automations(None, tmp_path / "automations.yaml")
    assert team.alert("no night completed")["text"].startswith("stsb-batch no night completed in 26 hours")
    with team.worker():
        run = team.api.start("nightly", location=str(team.folder / "many"), output=str(team.folder / "long"))
        team.api.wait(run, "Running")
        assert "is Running" in team.alert("runs over time", run)["text"]
