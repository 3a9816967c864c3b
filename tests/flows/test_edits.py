"""What an operator did in the UI outlives `serve`: kept and named, until `--reset`."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore

from flows.deployments import DEPLOY, RECORDS
from flows.serve import register, start_backfill
from tests.builders import make_pairs
from tests.flows.schedules import schedule_of

HOOK = "http://127.0.0.1:9/alerts"
ALERT = "stsb-batch drift"


@pytest.fixture
def client(harness) -> Iterator[SyncPrefectClient]:
    """Give a client of a server that holds nothing of ours."""
    with get_client(sync_client=True) as client:
        for found in client.read_deployments():
            client.delete_deployment(found.id)
        for found in client.read_automations():
            client.delete_automation(found.id)
        for name in RECORDS.values():
            if client.read_variable_by_name(name):
                client.delete_variable_by_name(name)
        yield client


def serve(*, cron: str = "0 2 * * *", reset: bool = False, webhook: str | None = None, **nightly) -> str:
    """Register as `serve` and `serve --register-only` do; return what they say."""
    schedule = schedule_of("/in/{night}", "/out", cron, **nightly)
    return "\n".join(register(schedule, reset=reset, webhook=webhook))


def nightly(client: SyncPrefectClient):
    return client.read_deployment_by_name("nightly/nightly")


def crons(client: SyncPrefectClient) -> list[tuple[str, bool]]:
    return [(one.schedule.cron, one.active) for one in nightly(client).schedules]


def plainly(found) -> dict:
    """Return what an operator can edit of a deployment, beside its schedule."""
    found.tags.sort()
    kept = found.model_dump(include={"parameters", "tags", "job_variables", "description", "concurrency_options"})
    return kept | {"limit": found.global_concurrency_limit.limit}


def reschedule(client: SyncPrefectClient, cron: str | None = None, *, active: bool | None = None) -> None:
    """Change the nightly schedule as the UI does."""
    found = nightly(client)
    schedule = CronSchedule(cron=cron, timezone="UTC") if cron else None
    client.update_deployment_schedule(found.id, found.schedules[0].id, schedule=schedule, active=active)


def test_nothing_is_said_where_nothing_was_changed(client):
    """Registering again the same says nothing of changes, and the deployment and its schedule stay the ones they were."""
    serve()
    before = nightly(client)
    assert "changed on the server" not in serve()
    assert (nightly(client).id, nightly(client).schedules[0].id) == (before.id, before.schedules[0].id)


def test_a_changed_time_and_a_paused_schedule_stay(client):
    """Kind: edits of the schedule. Another time, a schedule that is off: both stay, are named, and go with a reset."""
    serve()
    reschedule(client, "30 4 * * *", active=False)
    said = serve()
    assert crons(client) == [("30 4 * * *", False)]
    assert "nightly: schedule is 30 4 * * * UTC, this command says 0 2 * * * UTC" in said
    assert "nightly: schedule is active is false" in said
    assert "nightly  paused" in said
    assert "changed on the server" not in serve(reset=True)
    assert crons(client) == [("0 2 * * *", True)]


def test_a_paused_deployment_stays_paused(client):
    """Kind: pauses. The deployment's own switch is left as it is, whatever the command line."""
    serve()
    client.pause_deployment(nightly(client).id)
    assert "nightly: paused is true, this command says false" in serve(cron="0 3 * * *")
    assert nightly(client).paused
    assert crons(client) == [("0 3 * * *", True)]
    serve(reset=True)
    assert not nightly(client).paused


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parameters": {"location": "/in/{night}", "output": "/out", "max_bad_rows": 0.2}}, "parameter"),
        ({"tags": ["stsb-batch", "mine"], "description": "Ours."}, "tags"),
        ({"concurrency_limit": 2, "job_variables": {"env": {"OMP_NUM_THREADS": "1"}}}, "concurrency limit"),
    ],
)
def test_other_changes_of_a_deployment_stay(change: dict, field: str, client):
    """Kind: what else can be edited. A parameter, tags, limits, job variables, words stay, are named, and can be reset."""
    serve(max_bad_rows=0.1)
    plain = nightly(client)
    changed = {"tags": plain.tags, "job_variables": plain.job_variables} | change
    client.update_deployment(plain.id, DeploymentUpdate(**changed))
    edited = nightly(client)
    said = serve(max_bad_rows=0.1)
    assert f"nightly: {field} " in said
    assert plainly(nightly(client)) == plainly(edited) != plainly(plain)
    serve(reset=True, max_bad_rows=0.1)
    assert plainly(nightly(client)) == plainly(plain)


def test_a_changed_command_is_followed_where_nobody_changed_anything(client):
    """Kind: who changed it. A new time and parameter of the command line come; beside them an edited parameter stays."""
    serve()
    found = nightly(client)
    client.update_deployment(
        found.id,
        DeploymentUpdate(
            tags=found.tags, job_variables=found.job_variables, parameters=found.parameters | {"score_hours": 3.0}
        ),
    )
    said = serve(cron="0 5 * * *", max_bad_rows=0.1)
    assert "changed on the server" not in said
    assert crons(client) == [("0 5 * * *", True)]
    given = nightly(client).parameters
    assert (given["max_bad_rows"], given["score_hours"]) == (0.1, 3.0)


def test_an_edit_stays_an_edit(client):
    """Kind: again and again. After several starts, with other command lines between, the operator's time still holds."""
    serve()
    reschedule(client, "30 4 * * *")
    for cron in ("0 2 * * *", "0 3 * * *", "0 3 * * *"):
        assert f"schedule is 30 4 * * * UTC, this command says {cron} UTC" in serve(cron=cron)
    assert crons(client) == [("30 4 * * *", True)]


def test_a_server_without_a_record_is_taken_as_edited(client):
    """What differs on a server that was registered by an earlier version, without a record, is kept and named."""
    serve()
    client.delete_variable_by_name(RECORDS["deployments"])
    assert "nightly: schedule is 0 2 * * * UTC, this command says 0 6 * * * UTC" in serve(cron="0 6 * * *")
    assert crons(client) == [("0 2 * * *", True)]


def test_what_prefect_deploy_has_put_there_is_no_edit(client):
    """After `prefect deploy` of the same file the command's own places and times come back; a pause stays."""
    serve(cron="0 3 * * *")
    entries = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    [entry] = [entry for entry in entries if "schedules" in entry]
    found = nightly(client)
    client.update_deployment(
        found.id,
        DeploymentUpdate(tags=found.tags, job_variables=found.job_variables, parameters=entry["parameters"], paused=True),
    )
    reschedule(client, entry["schedules"][0]["cron"])
    assert serve(cron="0 3 * * *").count(", this command says") == 1
    assert (nightly(client).parameters["location"], crons(client)) == ("/in/{night}", [("0 3 * * *", True)])
    assert nightly(client).paused


def test_a_second_schedule_stays(client):
    """A schedule that an operator added runs on, and goes with a reset."""
    serve()
    client.create_deployment_schedules(nightly(client).id, [(CronSchedule(cron="0 14 * * *", timezone="UTC"), True)])
    assert "0 14 * * * UTC" in serve()
    assert len(crons(client)) == 2
    serve(reset=True)
    assert crons(client) == [("0 2 * * *", True)]


def change(client: SyncPrefectClient, **values) -> None:
    """Change an automation as the UI does."""
    [found] = client.read_automations_by_name(ALERT)
    core = AutomationCore(**found.model_dump(include=set(AutomationCore.model_fields) - {"owner_resource"}))
    client.update_automation(found.id, core.model_copy(update=values))


@pytest.mark.parametrize(
    ("values", "said"), [({"enabled": False}, "is switched off"), ({"description": "Not at night."}, "was changed")]
)
def test_an_automation_that_was_switched_off_or_changed_stays_so(values: dict, said: str, client):
    """Kind: edits of alerts. They stay, are named, and go with a reset."""
    serve(webhook=HOOK)
    [before] = client.read_automations_by_name(ALERT)
    change(client, **values)
    assert f"{ALERT}: {said}" in serve()
    assert f"{ALERT}: {said}" in serve(webhook=HOOK)
    [found] = client.read_automations_by_name(ALERT)
    assert found.id == before.id
    assert {name: getattr(found, name) for name in values} == values
    assert "changed on the server" not in serve(reset=True)
    [found] = client.read_automations_by_name(ALERT)
    assert (found.enabled, found.description) == (True, before.description)


def test_an_automation_that_was_deleted_stays_away(client):
    """A deleted alert does not come back by itself."""
    serve(webhook=HOOK)
    client.delete_automation(client.read_automations_by_name(ALERT)[0].id)
    assert f"{ALERT}: was deleted" in serve()
    assert client.read_automations_by_name(ALERT) == []
    serve(reset=True)
    assert len(client.read_automations_by_name(ALERT)) == 1


def test_an_automation_of_an_earlier_version_follows_but_stays_off(client):
    """Without a record the definition is ours, as each start overwrote it, and the switch the operator's."""
    serve(webhook=HOOK)
    [before] = client.read_automations_by_name(ALERT)
    client.delete_variable_by_name(RECORDS["automations"])
    change(client, description="of an earlier version", enabled=False)
    assert f"{ALERT}: is switched off" in serve()
    [found] = client.read_automations_by_name(ALERT)
    assert (found.enabled, found.description) == (False, before.description)


def test_a_paused_schedule_has_missed_no_night(client, tmp_path: Path):
    """Kind: starts by itself. `serve` makes up for a missed night by the schedule on the server, not while it is paused."""
    today = dt.datetime.now(dt.UTC).date()
    make_pairs(1).write_parquet(tmp_path / f"in/{today}/part.parquet", mkdir=True)
    earlier = tmp_path / f"out/{today - dt.timedelta(days=1)}"
    earlier.mkdir(parents=True)
    (earlier / "_SUCCESS").touch()
    list(register(schedule_of(str(tmp_path / "in/{night}"), str(tmp_path / "out"), "0 0 * * *")))
    reschedule(client, active=False)
    assert start_backfill() is None
    reschedule(client, active=True)
    assert start_backfill() == str(today)
