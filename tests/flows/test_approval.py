"""The decision on a suspended refresh: asked once, kept in any case."""

import contextlib
import time
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.flow_engine import run_flow

import flows.refresh as flow
from flows import events
from stsb_batch.models import decisions, registry
from stsb_batch.refresh.job import plan_refresh
from stsb_batch.requests import RefreshRequest
from tests.builders import add_version, made_from_plan, make_pairs
from tests.flows.team import read


def test_a_decision_that_comes_too_late_is_kept(harness, bert: Path, tmp_path: Path, settings):
    """Another champion came while the form was open: nothing moves, card and state say so, nothing is told twice."""
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    given = {"labels": str(tmp_path / "labels.parquet"), "base_model": str(bert), "approval": "manual"}
    made = made_from_plan(plan_refresh(RefreshRequest(given["labels"], str(bert))), bert, settings.home)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(flow.refresh_flow), "refresh")
        run = client.create_flow_run_from_deployment(deployment, parameters=given)
        go_on(run)
        assert client.read_flow_run(run.id).state.name == "Suspended"
        rival = add_version(settings.home, bert, mark=" ")
        registry.promote(settings.home, rival, "another refresh")
        client.resume_flow_run(run.id, run_input={"decision": "promote", "name": "Kim", "reason": "better"})
        go_on(client.read_flow_run(run.id))
        assert client.read_flow_run(run.id).state.name == "Completed, champion changed meanwhile"
    assert registry.champions(settings.home)["stack"] == [rival.reference]
    [kept] = decisions.decisions(registry.find_version(settings.home, made.reference))
    assert (kept["decision"], kept["by"]) == ("promote", "Kim")
    assert "nothing was moved" in kept["reason"]
    assert [one.payload["run"] for one in waiting_events(str(run.id))] == [str(run.id)]
    assert [one.key for one in read("artifacts") if one.flow_run_id == run.id] == ["refresh-report"]


def waiting_events(run: str) -> list:
    """Return the events about approval of a run, once there is one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = read("events", filter=EventFilter(event=EventNameFilter(name=[events.WAITING])), limit=50).events
        if ours := [one for one in found if one.payload["run"] == run]:
            return ours
        time.sleep(0.2)
    return []


def go_on(run) -> None:
    """Run the flow as a worker's process would; a suspended run ends with an exception that is no error."""
    with contextlib.suppress(BaseException):
        run_flow(flow.refresh_flow, flow_run=run, parameters=run.parameters)
