"""Deployments and automations, read from deploy/ and put on the server by name: what is there is updated, never doubled.

What people changed on the server stays as it is, unless a reset is asked for (flows/edits.py).
"""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import yaml
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.schedules import Cron, Schedule
from prefect.server.schemas.schedules import SCHEDULE_TYPES
from prefect.types.entrypoint import EntrypointType
from pydantic import TypeAdapter

from flows import edits
from flows.server import server_address

DEPLOY = Path(__file__).parents[1] / "deploy"
POOL = "stsb-batch"
WEBHOOK = "stsb-batch-alerts"  # name of the block that holds the address; a secret for Prefect
SERVER = "stsb-batch-server"  # the same for the server's own address, by which it changes a run on a condition
RECORDS = {"deployments": "stsb_batch_deployments", "automations": "stsb_batch_automations"}  # variables on the server


def read_deployments(nightly: dict[str, Any], *, cron: str, timezone: str) -> list[RunnerDeployment]:
    """Read deploy/prefect.yaml, with the parameters and the schedule of the nightly run in place of those in the file."""
    return [
        _deployment(entry, nightly, Cron(cron, timezone=timezone, slug="nightly"))
        if "schedules" in entry
        else _deployment(entry)
        for entry in _entries()
    ]


def _entries() -> list[dict]:
    return yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]


def _deployment(entry: dict, parameters: dict | None = None, schedule: Schedule | None = None) -> RunnerDeployment:
    limit, pool = entry.get("concurrency_limit"), entry["work_pool"]
    deployment = load_flow_from_entrypoint(entry["entrypoint"]).to_deployment(
        name=entry["name"],
        description=entry["description"],
        tags=entry["tags"],
        parameters=entry.get("parameters", {}) | (parameters or {}),
        schedules=[schedule] if schedule else [],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
        work_pool_name=pool["name"],
        job_variables=pool["job_variables"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return cast(RunnerDeployment, deployment)


def apply_deployments(deployments: list[RunnerDeployment], *, reset: bool = False) -> list[str]:
    """Put the deployments on the server and name the changes made there that were kept; with `reset` none is.

    A work pool that is missing is made, for processes.
    """
    kept, registered = [], {}
    with get_client(sync_client=True) as client:
        for name in {str(deployment.work_pool_name) for deployment in deployments}:
            try:
                client.read_work_pool(name)
            except ObjectNotFound:
                client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        record = {} if reset else edits.read_record(client, RECORDS["deployments"])
        for deployment in deployments:
            registered[deployment.name] = wanted = edits.wanted_values(deployment)
            try:
                found = client.read_deployment_by_name(deployment.full_name)
            except ObjectNotFound:
                deployment.apply()
                continue
            there = edits.values_there(found, deployment._parameter_openapi_schema.properties)
            values = wanted
            if not reset:
                last = _put_by_prefect(found) or record.get(deployment.name, {})
                values, lines = edits.merge(deployment.name, wanted, there, last)
                kept += lines
            _update(client, deployment, found, values, there)
        edits.write_record(client, RECORDS["deployments"], registered)
    return kept


def _put_by_prefect(found: DeploymentResponse) -> dict[str, str]:
    """Return the record of a deployment that `prefect deploy` has put there from the file since: nobody's changes."""
    for entry in _entries():
        if entry["name"] == found.name and found.parameters and found.parameters == entry.get("parameters"):
            schedules = [Cron(one["cron"], timezone=one["timezone"]) for one in entry["schedules"]]
            return edits.digests(edits.wanted_values(_deployment(entry, schedule=schedules[0])))
    return {}


def _update(
    client: SyncPrefectClient, deployment: RunnerDeployment, found: DeploymentResponse, values: dict, there: dict
) -> None:
    """Make a deployment on the server what `values` say; its schedule is touched only where it is to be another one."""
    client.update_deployment(
        found.id,
        DeploymentUpdate(
            description=values["description"],
            tags=values["tags"],
            paused=values["paused"],
            parameters=edits.parameters_of(values),
            job_variables=values["job variables"],
            work_pool_name=values["work pool"],
            work_queue_name=values["work queue"],
            concurrency_limit=values["concurrency limit"],
            concurrency_options=values["concurrency options"],
            version=deployment.version,
            entrypoint=deployment.entrypoint,
            path=None,
            pull_steps=None,
            enforce_parameter_schema=deployment.enforce_parameter_schema,
            parameter_openapi_schema=deployment._parameter_openapi_schema.model_dump(exclude_unset=True),
        ),
    )
    schedule = ("schedule", "schedule is active")
    if all(values[name] == there[name] for name in schedule):
        return
    for one in found.schedules:
        client.delete_deployment_schedule(found.id, one.id)
    wanted = [
        DeploymentScheduleCreate(
            schedule=one.schedule, parameters=one.parameters or {}, slug=one.slug, active=values["schedule is active"]
        )
        for one in deployment.schedules or []
        if one.schedule
    ]
    if wanted:
        client.create_deployment_schedules(found.id, wanted)


def read_nightly() -> DeploymentResponse:
    """Read the nightly deployment as it is on the server."""
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name("nightly/nightly")


def scheduled_starts(found: DeploymentResponse, count: int, since: dt.datetime) -> list[dt.datetime]:
    """Return up to so many starts of each active schedule from a moment on, in order; none while all is paused."""
    active = [one.schedule.model_dump() for one in found.schedules if one.active and not found.paused]
    schedules = map(TypeAdapter(SCHEDULE_TYPES).validate_python, active)
    return sorted(start for schedule in schedules for start in asyncio.run(schedule.get_dates(count, start=since)))


def apply_automations(webhook: str | None, path: Path | None = None, *, reset: bool = False) -> tuple[list[str], list[str]]:
    """Put the automations of deploy/automations.yaml on the server; return their names, and the changes that were kept.

    Those that alert need a webhook: the address given, else the one that an earlier call left on the server. One that is
    on the server just so is left alone, because a change makes it forget what it is waiting for.
    """
    wanted = yaml.safe_load((path or DEPLOY / "automations.yaml").read_text())["automations"]
    kept = []
    with get_client(sync_client=True) as client:
        blocks = {WEBHOOK: _webhook_block(webhook), SERVER: _server_block()}
        applied = [core for entry in wanted if (core := _automation(entry, blocks))]
        record = {} if reset else edits.read_record(client, RECORDS["automations"])
        for core in applied:
            kept += _apply_automation(client, core, record.get(core.name), reset=reset)
        edits.write_record(client, RECORDS["automations"], {core.name: _definition(core) for core in applied})
    return [core.name for core in applied], kept


def _webhook_block(webhook: str | None) -> str | None:
    """Save the webhook's address on the server if there is one, and return the block's id; None without any address."""
    if webhook:
        block = Webhook.model_validate({"url": webhook, "headers": {"Content-Type": "application/json"}})
        return str(block.save(WEBHOOK, overwrite=True))
    try:
        return str(cast(Webhook, Webhook.load(WEBHOOK))._block_document_id)
    except ValueError:
        return None


def _server_block() -> str:
    """Save the server's own address, with what authenticates us there, and return the block's id."""
    api, headers = server_address()
    block = Webhook.model_validate(
        {
            "url": f"{api}/flow_runs/bulk_set_state",
            "headers": {"Content-Type": "application/json"} | headers,
            # Prefect 3.8: calls that share a pool end each other; without TLS this chooses a pool apart from the alerts'
            "verify": urlsplit(api).scheme == "https",
        }
    )
    return str(block.save(SERVER, overwrite=True))


def _automation(entry: dict, blocks: dict[str, str | None]) -> AutomationCore | None:
    """Return an automation whose webhooks are blocks of this server; None for one whose webhook nobody has named."""
    [action] = entry["actions"]
    block = blocks[action.get("block_document_id", WEBHOOK)]
    return AutomationCore(**entry | {"actions": [action | {"block_document_id": block}]}) if block else None


def _apply_automation(client: SyncPrefectClient, core: AutomationCore, last: dict | None, *, reset: bool) -> list[str]:
    """Make an automation what it is to be; return a line for each change of people that was kept.

    One that was never registered with a record is ours but for its switch: until then each start overwrote the rest.
    """
    there = client.read_automations_by_name(core.name)
    for double in there[1:]:
        client.delete_automation(double.id)
    if not there:
        if last and not reset:
            return [f"{core.name}: was deleted"]
        client.create_automation(core)
        return []
    found = AutomationCore(**there[0].model_dump(include=set(AutomationCore.model_fields)))
    is_enabled = True if reset else found.enabled
    kept = [] if is_enabled else [f"{core.name}: is switched off"]
    wanted = core.model_copy(update={"enabled": is_enabled})
    if last and not reset and not edits.is_registered(_definition(found), last):
        return [*kept, f"{core.name}: was changed"]
    if found != wanted:
        client.update_automation(there[0].id, wanted)
    return kept


def _definition(core: AutomationCore) -> dict[str, Any]:
    """Return what an automation does, without its switch and without the id of the webhook's block."""
    whole = core.model_dump(mode="json", exclude={"enabled", "owner_resource"})
    for names in ("after", "expect", "for_each"):  # sets, which come in any order
        whole["trigger"][names].sort()
    for action in whole["actions"]:
        action.pop("block_document_id", None)
    return {"definition": whole}
