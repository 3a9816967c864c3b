"""The schedule: one run for each local date, what deploy/ says, what is refused before anything starts."""

import asyncio
import datetime as dt
import json
import uuid
from collections import Counter
from pathlib import Path

import pytest
import yaml
from prefect.events.schemas.automations import AutomationCore
from prefect.server.events.actions import CallWebhook, LabelDiver
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent, RelatedResource
from prefect.server.utilities.user_templates import TemplateRenderError, render_user_template

from flows import TAG, events
from flows.deployments import DEPLOY, POOL, apply_deployments, read_deployments
from flows.serve import start_backfill
from stsb_batch.errors import ConfigError, UsageError
from stsb_batch.schedule.run_dates import run_date_of
from tests.builders import make_pairs
from tests.flows.schedules import schedule_of
from tests.flows.team import read

CHANGES = {
    "Europe/Berlin": ("2027-03-28", "2027-10-31"),
    "America/New_York": ("2027-03-14", "2027-11-07"),
    "Australia/Lord_Howe": ("2027-04-04", "2027-10-03"),  # half an hour
}


def deployments(**nightly):
    schedule = schedule_of("pairs/{night}", "scores", **nightly)
    return {one.name: one for one in read_deployments(schedule.parameters(), cron="30 1 * * *", timezone="UTC")}


@pytest.mark.parametrize("clock", ["0 0", "30 1", "30 2"])
@pytest.mark.parametrize("zone", CHANGES)
def test_each_local_date_has_one_run_when_the_clocks_change(zone: str, clock: str):
    """Over both changes, asked every six hours as the server does, the starts are one for each night."""
    schedule = schedule_of("in", "out", f"{clock} * * *", timezone=zone)
    for change in CHANGES[zone]:
        day = dt.datetime.fromisoformat(f"{change}T12:00+00:00")
        moments = [day + dt.timedelta(hours=hours) for hours in range(-96, 49, 6)]
        starts = {start.astimezone(dt.UTC) for moment in moments for start in schedule.starts(3, moment)}
        nights = Counter(run_date_of(start, zone) for start in starts)
        expected = [(day.date() + dt.timedelta(days=days)).isoformat() for days in range(-2, 3)]
        assert {nights[night] for night in expected} == {1}


@pytest.mark.parametrize(("cron", "zone", "message"), [("at two", "UTC", "cron"), ("0 2 * * *", "Mars/Base", "time zone")])
def test_a_wrong_schedule_is_named(cron: str, zone: str, message: str):
    """A cron line or a time zone that is none is refused with how to write it."""
    with pytest.raises(ConfigError, match=message):
        schedule_of("in", "out", cron, timezone=zone).check()


def test_a_wrong_time_of_day_is_named():
    """What is no time is refused before the first night."""
    with pytest.raises(UsageError, match=r"seven: not a time of day"):
        schedule_of("in", "out", deadline="seven").check()


def test_a_night_missed_while_nothing_ran_is_started_once_it_counts_as_missed(harness, tmp_path: Path):
    """The newest night whose time has passed is started on its own date if an earlier one was scored, otherwise none."""
    schedule = schedule_of(str(tmp_path / "in/{night}"), str(tmp_path / "out"), "0 0 * * *")
    today = dt.datetime.now(dt.UTC).date()
    make_pairs(1).write_parquet(tmp_path / f"in/{today}/part.parquet", mkdir=True)
    apply_deployments(read_deployments(schedule.parameters(), cron=schedule.cron, timezone="UTC"))
    others = {run.id for run in read("flow_runs")}
    assert start_backfill() is None
    earlier = tmp_path / f"out/{today - dt.timedelta(days=1)}"
    earlier.mkdir(parents=True)
    (earlier / "_SUCCESS").touch()
    assert start_backfill() == str(today)
    starts = [run.expected_start_time for run in read("flow_runs") if run.id not in others and not run.auto_scheduled]
    assert starts == [dt.datetime.combine(today, dt.time(), dt.UTC)]


def test_five_deployments_with_forms_and_limits():
    """They are the issue's five, in one pool, by module; a night and a refresh run one at a time, the later cancelled."""
    found = deployments()
    assert list(found) == ["nightly", "score", "refresh", "promote", "rollback"]
    assert {one.work_pool_name for one in found.values()} == {POOL}
    assert found["nightly"].entrypoint == "flows.nightly.run_night"
    assert [len(one.schedules) for one in found.values()] == [1, 0, 0, 0, 0]
    limited = {name for name, one in found.items() if one.concurrency_limit == 1}
    assert limited == {"nightly", "refresh"}
    assert found["nightly"].concurrency_options.collision_strategy == "CANCEL_NEW"


def test_every_parameter_has_help_choices_and_bounds():
    """The form of each deployment explains each field, offers a choice where there is one, and knows the bounds."""
    forms = {name: one._parameter_openapi_schema.properties for name, one in deployments().items()}
    assert not [(name, key) for name, form in forms.items() for key, field in form.items() if not field.get("description")]
    assert forms["nightly"]["approval"]["enum"] == ["auto", "manual"]
    assert forms["nightly"]["refresh_days"]["minimum"] == 0


def test_places_are_absolute_for_a_worker_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Folders and files are named from the root; names of hub models and data sets stay as they are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.parquet").touch()
    given = deployments(labels="labels.parquet", base_model="minilm")["nightly"].parameters
    assert given["location"] == str(tmp_path / "pairs/{night}")
    assert given["output"] == str(tmp_path / "scores")
    assert given["labels"] == str(tmp_path / "labels.parquet")
    assert given["base_model"] == "minilm"


@pytest.mark.parametrize(("tag", "ours"), [(TAG, True), ("other-team", False)])
def test_dead_runs_are_looked_for_among_ours(tag: str, ours: bool):
    """On a shared server another team's `refresh`, which may beat less often, is nobody's business."""
    entries = yaml.safe_load((DEPLOY / "automations.yaml").read_text())["automations"]
    [trigger] = [EventTrigger(**entry["trigger"]) for entry in entries if entry["name"] == "stsb-batch dead run"]
    run = {"prefect.resource.id": f"prefect.flow-run.{uuid.uuid4()}"}
    flow = RelatedResource({"prefect.resource.id": "prefect.flow.x", "prefect.resource.role": "flow"})
    related = [flow, RelatedResource({"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"})]
    now, name = dt.datetime.now(dt.UTC), "prefect.flow-run.heartbeat"
    beat = ReceivedEvent(id=uuid.uuid4(), occurred=now, event=name, resource=run, related=related)
    assert trigger.starts_after(beat.event)
    assert trigger.covers(beat) is ours
    assert {tag for one in deployments().values() for tag in one.tags} == {TAG}


def render(payload: str, **context) -> str:
    """Render a payload of deploy/automations.yaml as the server does."""
    CallWebhook._register_filters_if_needed()
    text = yaml.safe_load((DEPLOY / "automations.yaml").read_text())["payloads"][payload]
    return asyncio.run(render_user_template(text.replace('(flow_run|ui_url or "")', '""'), context))


def test_a_dead_run_is_asked_for_by_its_state_now():
    """Kind: actions on a run whose last event was lost. What is sent names one run and the state that it must have."""
    sent = json.loads(render("dead", labels=LabelDiver({"prefect.resource.id": "prefect.flow-run.some-id"})))
    assert sent["flow_runs"] == {"id": {"any_": ["some-id"]}, "state": {"type": {"any_": ["RUNNING"]}}}
    assert sent["state"]["type"] == "CRASHED"


def test_a_run_that_has_ended_is_not_told_to_be_late():
    """Kind: alerts about a run whose last event was lost. The payload does not render, so nothing is sent."""
    run = {"name": "night", "id": "some-id", "state": {"name": "Running", "message": None}, "end_time": None}
    assert json.loads(render("late", automation={"name": "late"}, flow_run=run))["text"] == "late: night is Running.  "
    with pytest.raises(TemplateRenderError):
        render("late", automation={"name": "late"}, flow_run=run | {"end_time": "2026-01-02"})


def test_a_failure_is_told_once_for_each_attempt():
    """Kind: events that come again. A trigger that has fired is quiet for a while: about that attempt of that run, or about
    that event of it."""
    entries = yaml.safe_load((DEPLOY / "automations.yaml").read_text())["automations"]
    triggers = [entry["trigger"] for entry in entries if entry["trigger"]["posture"] == "Reactive"]
    assert all(trigger["within"] >= 3600 and "prefect.resource.id" in trigger["for_each"] for trigger in triggers)
    [failed] = [trigger for trigger in triggers if "prefect.flow-run.Failed" in trigger["expect"]]
    assert failed["for_each"] == ["prefect.resource.id", "prefect.run-count"]
    others = [name for entry in entries if entry["trigger"] != failed for name in entry["trigger"]["expect"]]
    assert not set(failed["expect"]) & set(others)


def test_automations_are_valid_and_know_our_events():
    """Each automation passes Prefect's own model and its payload Prefect's template check; each event of ours has one."""
    wanted = yaml.safe_load((DEPLOY / "automations.yaml").read_text())["automations"]
    block = "00000000-0000-0000-0000-000000000000"
    for entry in wanted:
        actions = [action | ({"block_document_id": block} if "payload" in action else {}) for action in entry["actions"]]
        AutomationCore(**entry | {"actions": actions})
        for action in actions:
            assert "payload" not in action or CallWebhook(**action).payload
    expected = {name for entry in wanted for name in entry["trigger"]["expect"]}
    told = {value for name, value in vars(events).items() if name.isupper()}
    assert {name for name in expected if name.startswith("stsb-batch.")} == told
