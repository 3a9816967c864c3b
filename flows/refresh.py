"""Refresh the model: train, gate, perhaps ask, promote; nothing is trained twice from the same labels, base and recipe."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows import approval, events
from flows.artifacts import publish_refresh
from flows.parameters import takes
from flows.timeout import rearm_timeout
from stsb_batch.errors import GateRefused
from stsb_batch.fields import fields_of
from stsb_batch.models import decisions, registry
from stsb_batch.refresh import job
from stsb_batch.requests import NightlyRequest, RefreshRequest

APPROVAL = fields_of(NightlyRequest)["approval"]


def refresh_run_name() -> str:
    given = flow_run.parameters
    return f"refresh {given['name']} from {given['labels']} ({given['recipe']})"


@task(task_run_name="train {request.recipe} on {request.base_model}", persist_result=False)
def train(request: RefreshRequest) -> str:
    """Train a candidate and return its folder."""
    return str(job.train_candidate(job.plan_refresh(request)))


@task(task_run_name="gate against the champion", persist_result=False)
def gate(request: RefreshRequest, candidate: str) -> job.RefreshOutcome:
    """Measure and register the candidate, and compare it with the champion."""
    return job.judge_candidate(job.plan_refresh(request), Path(candidate))


@task(task_run_name="promote {version.reference}", persist_result=False)
def promote(home: Path, version: registry.Version) -> None:
    """Make the version the champion, unless another one became champion since it was measured."""
    registry.promote_over_parent(home, version, "passed the gate")


@task(task_run_name="{answer.decision} {version.reference}", persist_result=False)
def decide(home: Path, version: registry.Version, answer: approval.Decision) -> None:
    """Carry out a decision, and keep it with the version's card."""
    if answer.decision == "promote":
        decisions.approve(home, version, answer.name, answer.reason)
    else:
        decisions.record(version, "reject", answer.name, answer.reason)


def labels_refused(error: GateRefused) -> str:
    """Report that no model from these labels can pass the gate; returns the suffix of the run's state."""
    message = f"gate refused the labels, the champion stays: {error}"
    get_run_logger().error(message)
    events.emit(events.GATE_REFUSED, message)
    return ", gate refused"


def promote_or_ask(home: Path, outcome: job.RefreshOutcome, how: str) -> str:
    """Promote what passed, or ask for a decision; returns the suffix of the run's state."""
    version = outcome.version
    if not outcome.decision.passed:
        return ", gate refused"
    if not job.awaits_promotion(home, outcome):
        return ", rejected" if decisions.is_rejected(version) else superseded(home, outcome)
    if how == "auto":
        promote(home, version)
        return ""
    if not approval.can_suspend():
        get_run_logger().warning(
            "%s passed its gate and is not champion yet: stsb-batch models promote %s", version.reference, version.reference
        )
        return ", awaits approval"
    answer = approval.ask(outcome)
    decide(home, version, answer)
    return ", approved" if answer.decision == "promote" else ", rejected"


def superseded(home: Path, outcome: job.RefreshOutcome) -> str:
    """Keep a decision about a version that another champion superseded; returns the suffix of the run's state."""
    version = outcome.version
    if not approval.is_resumed() or registry.model_name(home, "champion") == version.reference:
        return ""
    answer = approval.ask(outcome)
    reason = f"{answer.reason} (nothing was moved: the champion had changed meanwhile)"
    decisions.record(version, answer.decision, answer.name, reason)
    return ", champion changed meanwhile"


@flow(name="refresh", flow_run_name=refresh_run_name, persist_result=False)
@takes(fields_of(RefreshRequest) | {"approval": APPROVAL})
def refresh_flow(given: dict[str, Any]) -> State:
    """Train and gate when labels, base or recipe are new; then promote, or wait for a decision.

    While it waits the run is suspended and holds no process: Resume in the run's menu opens the form. When it continues, it
    finds all earlier steps done.
    """
    rearm_timeout()
    how = given.pop("approval")
    request = RefreshRequest(**given)
    try:
        plan = job.plan_refresh(request)
    except GateRefused as error:
        return Completed(name=f"Completed{labels_refused(error)}", data={"model": None, "passed": False, "trained": False})
    outcome = job.find_done(plan) or gate(request, train(request))
    if outcome.trained and not outcome.decision.passed:
        failed = "; ".join(check.detail for check in outcome.decision.failed)
        events.emit(events.GATE_REFUSED, f"{outcome.version.reference} was refused, the champion stays: {failed}")
    if outcome.trained or not approval.is_resumed():
        publish_refresh(outcome)
    suffix = promote_or_ask(request.settings.home, outcome, how)
    done = {"model": outcome.version.reference, "passed": outcome.decision.passed, "trained": outcome.trained}
    return Completed(name=f"Completed{suffix}", data=done)
