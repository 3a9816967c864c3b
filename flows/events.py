"""Prefect events about what happened; automations turn them into alerts.

The names are a contract with deploy/automations.yaml. A run's own states (failed, crashed, running too long, no night
completed) need no event of ours.
"""

import datetime as dt

from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.runtime import flow_run

DRIFT = "stsb-batch.drift"  # scores or texts differ from those of earlier nights
GATE_REFUSED = "stsb-batch.gate-refused"  # a new model did not pass, the champion stays
REFRESH_FAILED = "stsb-batch.refresh-failed"  # a night's refresh failed, the champion scored
BAD_ROWS = "stsb-batch.bad-rows-near-budget"  # a run that passed, but with more bad rows than its warn limit
LATE = "stsb-batch.will-be-late"  # at its present speed a night will miss its deadline
WAITING = "stsb-batch.awaits-approval"  # a model passed its gate and awaits approval


def emit(event: str, message: str) -> None:
    """Emit an event about the present run; the resource carries the run's id, so that receivers can drop duplicates."""
    run = flow_run.root_flow_run_id or flow_run.id
    emit_event(
        event=event,
        resource={"prefect.resource.id": f"{event}.{flow_run.id}", "prefect.resource.name": flow_run.name or event},
        related=[{"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}],
        payload={"message": message, "run": run},
    )


def last_drift() -> dt.datetime | None:
    """Return when the last drift event was emitted, as far back as the server keeps events."""
    with get_client(sync_client=True) as client:
        found = client.read_events(EventFilter(event=EventNameFilter(name=[DRIFT])), limit=1).events
    return found[0].occurred if found else None
