"""Three runs at once, again and again, on the default SQLite server: the right states, one alert for each failure."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.states import (
    AwaitingRetry,
    Completed,
    Failed,
    Paused,
    Pending,
    Running,
    Scheduled,
    Suspended,
)

from flows import TAG
from flows.deployments import DEPLOY, apply_automations
from flows.refresh import refresh_flow
from stsb_batch.refresh.job import refresh
from stsb_batch.requests import RefreshRequest
from stsb_batch.settings import Settings
from tests.builders import make_champion, make_pairs
from tests.flows.team import Api, free_port, program, receiver, stsb_batch, wait_until

pytestmark = pytest.mark.slow
ROUNDS = 20
NIGHT = "2026-01-02"


@pytest.fixture
def served(bert: Path, tmp_path: Path) -> Iterator[tuple[Api, list[dict]]]:
    """Run `serve` with a server of its own on SQLite and a receiver of alerts; its schedule starts nothing by itself."""
    make_champion(tmp_path / "home", bert)
    make_pairs(50).write_parquet(tmp_path / f"in/{NIGHT}/part.parquet", mkdir=True)
    port = free_port()
    own = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    own |= {"STSB_BATCH_HOME": str(tmp_path / "home"), "STSB_BATCH_ENGINE": "torch", "STSB_BATCH_PRECISION": "fp32"}
    with receiver() as (webhook, alerts):
        command = stsb_batch("serve", tmp_path / "in/{night}", "-o", tmp_path / "out/night={night}")
        command += ["--cron", "0 0 1 1 *", "--port", str(port), "--webhook", webhook]
        with program(command, log=tmp_path / "serve.log", environment=own) as process:
            wait_until(
                lambda: process.poll() is not None or "Ctrl-C" in (tmp_path / "serve.log").read_text(),
                seconds=180,
                what="serve",
            )
            yield Api(f"http://127.0.0.1:{port}/api"), alerts


def waiting_model(home: Path, labels: Path, bert: Path) -> dict:
    """Leave a version that waits for its promotion; return the parameters of the refresh that finds it and asks."""
    make_pairs(200).write_parquet(labels)
    settings = Settings(home=home, engine="torch", precision="fp32")
    made = refresh(RefreshRequest(str(labels), str(bert), settings=settings), dry_run=True).version
    (made.path / "card.json").write_text(json.dumps(made.card | {"gate": made.card["gate"] | {"passed": True}}))
    return {"labels": str(labels), "base_model": str(bert), "approval": "manual"}


def test_three_runs_at_once_have_the_right_states_and_an_alert_for_each_failure(served, bert: Path, tmp_path: Path):
    """Kind: events that SQLite loses or delivers again. Of three runs started together one completes and two fail; all the
    while a refresh waits for approval. No state is wrong, no failure is told twice or not at all."""
    api, alerts = served
    waiting = api.start("refresh", **waiting_model(tmp_path / "home", tmp_path / "labels.parquet", bert))
    api.wait(waiting, "Suspended")
    states, failed = Counter(), set()
    for number in range(ROUNDS):
        runs = {
            api.start(
                "score", location=str(tmp_path / f"in/{NIGHT}"), output=str(tmp_path / f"scores-{number}")
            ): "Completed",
            api.start("score", location=str(tmp_path / "missing")): "Failed",
            api.start("nightly", night=f"2026-03-{number + 1:02d}"): "Failed",
        }
        for run, expected in runs.items():
            found = api.wait(run, "Completed", "Failed", "Crashed", "Cancelled", seconds=180)["state_name"]
            states[expected, found] += 1
            failed |= {run} if found == "Failed" else set()
    time.sleep(120)  # longer than a run may be silent
    print("FIGURE states", dict(states), "alerts", len(alerts), Counter(one["alert"] for one in alerts))
    assert api.run(waiting)["state_name"] == "Suspended"
    assert set(states) == {("Completed", "Completed"), ("Failed", "Failed")}
    assert Counter(one["run"] for one in alerts if one["alert"] == "stsb-batch run failed") == Counter(failed)
    assert [one["run"] for one in alerts if one["alert"] != "stsb-batch run failed"] == [waiting]


def test_silence_crashes_a_run_that_is_running_and_no_other(harness, tmp_path: Path):
    """Kind: runs whose last event was lost. Of runs that fell silent the one that is Running is Crashed; one that waits for
    somebody, one that has ended and one that has not begun stay what they are."""
    wanted = yaml.safe_load((DEPLOY / "automations.yaml").read_text())
    wanted["automations"][0]["trigger"]["within"] = 12
    (tmp_path / "automations.yaml").write_text(yaml.safe_dump(wanted))
    apply_automations(None, tmp_path / "automations.yaml", reset=True)
    states = [Running(), Suspended(timeout_seconds=3600), Paused(timeout_seconds=3600), Completed(), Failed(), Pending()]
    states += [AwaitingRetry(), Scheduled()]
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(refresh_flow), "silent")
        runs = {state.name: client.create_flow_run_from_deployment(deployment, tags=[TAG]).id for state in states}
        for state in states:
            client.set_flow_run_state(runs[state.name], state, force=True)
            emit_event(
                event="prefect.flow-run.heartbeat",
                resource={"prefect.resource.id": f"prefect.flow-run.{runs[state.name]}"},
                related=[{"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}],
            )
        wait_until(lambda: client.read_flow_run(runs["Running"]).state_name == "Crashed", seconds=60, what="Crashed")
        time.sleep(10)
        assert "No heartbeat for 90 s" in client.read_flow_run(runs.pop("Running")).state.message
        assert {name: client.read_flow_run(run).state_name for name, run in runs.items()} == {name: name for name in runs}
    apply_automations(None, reset=True)
