"""Manual approval: the form on a suspended refresh, and the answer."""

from typing import Literal

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from flows import TAG, events
from flows.parameters import By, Reason
from stsb_batch.refresh.job import RefreshOutcome

DAYS_TO_DECIDE = 14
KEY = "decision"


class Decision(RunInput):
    """What the form asks."""

    decision: Literal["promote", "reject"] = Field(title="Decision")
    name: By
    reason: Reason


def can_suspend() -> bool:
    """Say whether this run can wait without a process: it belongs to a deployment and is nobody's subflow."""
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.deployment_id)


def is_resumed() -> bool:
    """Say whether this run was suspended for a decision before and continues now.

    Its run count does not show it: a retry raises it, Resume leaves it.
    """
    context = FlowRunContext.get()
    policy = context.flow_run.empirical_policy if context and context.flow_run else None
    return bool(policy and KEY in (policy.pause_keys or ()))


def ask(outcome: RefreshOutcome) -> Decision:
    """Suspend the run until the form is filled in; the process ends, and a new one continues with the answer."""
    if not is_resumed():
        events.emit(events.WAITING, f"{outcome.version.reference} passed its gate and awaits approval")
    checks = "\n".join(f"- {line}" for line in (*outcome.decision.checks, *outcome.decision.notes))
    description = f"**{outcome.version.reference}** passed its gate. Make it the champion?\n\n{checks}"
    form = Decision.with_initial_data(description=description)
    return suspend_flow_run(wait_for_input=form, key=KEY, timeout=DAYS_TO_DECIDE * 86_400)


def waiting_run() -> str | None:
    """Name the refresh that awaits approval, if there is one."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    paused = FlowRunFilter(state=state, tags=FlowRunFilterTags(all_=[TAG]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["refresh"])), flow_run_filter=paused, limit=1
        )
    return found[0].name if found else None
