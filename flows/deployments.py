"""Deployments and automations, read from deploy/ and put on the server by name: what is there is updated, never doubled."""

from pathlib import Path
from typing import Any

import yaml
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType

DEPLOY = Path(__file__).parents[1] / "deploy"
POOL = "stsb-batch"
WEBHOOK = "stsb-batch-alerts"  # name of the block that holds the address; a secret for Prefect


def read_deployments(nightly: dict[str, Any], *, cron: str, timezone: str) -> list[RunnerDeployment]:
    """Read deploy/prefect.yaml, with the parameters and the schedule of the nightly run in place of those in the file."""
    return [
        _deployment(entry, nightly, Cron(cron, timezone=timezone, slug="nightly"))
        if "schedules" in entry
        else _deployment(entry)
        for entry in yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    ]


def _deployment(entry: dict, parameters: dict | None = None, schedule: Schedule | None = None) -> RunnerDeployment:
    limit, pool = entry.get("concurrency_limit"), entry["work_pool"]
    return load_flow_from_entrypoint(entry["entrypoint"]).to_deployment(
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


def apply_deployments(deployments: list[RunnerDeployment]) -> None:
    """Put the deployments on the server; a work pool that is missing is made, for processes."""
    with get_client(sync_client=True) as client:
        for name in {deployment.work_pool_name for deployment in deployments}:
            try:
                client.read_work_pool(name)
            except ObjectNotFound:
                client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    for deployment in deployments:
        deployment.apply()


def apply_automations(webhook: str | None, path: Path | None = None) -> list[str]:
    """Put the automations of deploy/automations.yaml on the server and return their names.

    Those that alert need a webhook: the address given, else the one that an earlier call left on the server. One that is
    on the server just so is left alone, because a change makes it forget what it is waiting for.
    """
    wanted = yaml.safe_load((path or DEPLOY / "automations.yaml").read_text())["automations"]
    with get_client(sync_client=True) as client:
        block = _webhook_block(webhook)
        applied = [core for entry in wanted if (core := _automation(entry, block))]
        for core in applied:
            _apply_automation(client, core)
    return [core.name for core in applied]


def _webhook_block(webhook: str | None) -> str | None:
    """Save the webhook's address on the server if there is one, and return the block's id; None without any address."""
    if webhook:
        block = Webhook(url=webhook, headers={"Content-Type": "application/json"})
        return str(block.save(WEBHOOK, overwrite=True))
    try:
        return str(Webhook.load(WEBHOOK)._block_document_id)
    except ValueError:
        return None


def _automation(entry: dict, block: str | None) -> AutomationCore | None:
    actions = []
    for action in entry["actions"]:
        if action["type"] != "call-webhook":
            actions.append(action)
        elif block:
            actions.append(action | {"block_document_id": block})
    return AutomationCore(**entry | {"actions": actions}) if actions else None


def _apply_automation(client: SyncPrefectClient, core: AutomationCore) -> None:
    there = client.read_automations_by_name(core.name)
    for double in there[1:]:
        client.delete_automation(double.id)
    if not there:
        client.create_automation(core)
    elif AutomationCore(**there[0].model_dump(include=set(AutomationCore.model_fields))) != core:
        client.update_automation(there[0].id, core)
