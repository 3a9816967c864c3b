"""What people changed on the server since it was registered last: kept, and named.

The server remembers what was registered, in a variable: a digest of each value. A value that is another one now was changed
there by somebody, and stays; one that is still the same follows the command line.
"""

import json
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment

from stsb_batch.durable import json_sha256
from stsb_batch.errors import escape_control

Values = dict[str, Any]
PARAMETER = "parameter "  # in front of a parameter's name


def read_record(client: SyncPrefectClient, name: str) -> dict[str, dict[str, str]]:
    """Return the digests of what was registered last, by name and value; empty where nothing was."""
    found = client.read_variable_by_name(name)
    return found.value if found and isinstance(found.value, dict) else {}


def write_record(client: SyncPrefectClient, name: str, registered: dict[str, Values]) -> None:
    """Remember what has been registered."""
    value = {one: digests(values) for one, values in registered.items()}
    if client.read_variable_by_name(name):
        client.update_variable(VariableUpdate(name=name, value=value))
    else:
        client.create_variable(VariableCreate(name=name, value=value))


def digests(values: Values) -> dict[str, str]:
    return {field: _digest(value) for field, value in values.items()}


def merge(name: str, wanted: Values, there: Values, last: dict[str, str]) -> tuple[Values, list[str]]:
    """Return the values that hold from now on, and a line for each change on the server that is kept.

    What the command does not set is nobody's but the server's; what it no longer sets goes, unless somebody changed it.
    """
    merged: Values = {}
    kept: list[str] = []
    for field in [*wanted, *(field for field in there if field not in wanted)]:
        is_ours = last[field] == _digest(there.get(field)) if field in last else field not in there
        if is_ours or (field in wanted and there.get(field) == wanted[field]):
            merged |= {field: wanted[field]} if field in wanted else {}
            continue
        merged |= {field: there[field]} if field in there else {}
        if field in wanted:
            kept.append(f"{name}: {field} is {_text(there.get(field))}, this command says {_text(wanted[field])}")
    return merged, kept


def is_registered(values: Values, last: dict[str, str]) -> bool:
    """Say whether these are the values that were registered last."""
    return all(last.get(field) == _digest(value) for field, value in values.items())


def wanted_values(deployment: RunnerDeployment) -> Values:
    """Return what a deployment is to be, for comparison."""
    return _values(deployment, deployment.schedules or [], deployment.concurrency_limit)


def values_there(found: DeploymentResponse, known: Values) -> Values:
    """Return what a deployment is on the server; parameters that its flow does not know (`known`) are left out."""
    limit = found.global_concurrency_limit.limit if found.global_concurrency_limit else None
    values = _values(found, found.schedules, limit)
    unknown = {PARAMETER + name for name in found.parameters if name not in known}
    return {field: value for field, value in values.items() if field not in unknown}


def parameters_of(values: Values) -> Values:
    return {field.removeprefix(PARAMETER): value for field, value in values.items() if field.startswith(PARAMETER)}


def _values(deployment: RunnerDeployment | DeploymentResponse, schedules: list, limit: int | None) -> Values:
    options = deployment.concurrency_options
    values = {
        "paused": bool(deployment.paused),
        "schedule": [_schedule(one) for one in schedules],
        "schedule is active": any(one.active for one in schedules) or not schedules,
        "description": deployment.description,
        "tags": sorted(deployment.tags),
        "job variables": deployment.job_variables,
        "work pool": deployment.work_pool_name,
        "work queue": deployment.work_queue_name or "default",
        "concurrency limit": limit,
        "concurrency options": options.model_dump(mode="json") if options else None,
    }
    return values | {PARAMETER + name: value for name, value in deployment.parameters.items()}


def _schedule(one: DeploymentSchedule) -> Values:
    return one.schedule.model_dump(mode="json") | {"parameters": one.parameters}


def _digest(value: Any) -> str:
    return json_sha256(value)[:12]


def _text(value: Any) -> str:
    """Write a value for people: a cron schedule as its line and time zone, all else as JSON."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "cron" in one for one in value):
        return ", ".join(f"{one['cron']} {one['timezone']}" for one in value)
    return escape_control(json.dumps(value, ensure_ascii=False, default=str))
