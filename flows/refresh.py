"""Refresh the model: train, gate, perhaps ask, promote; nothing is trained twice from the same labels, base and recipe."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows import approval as asking
from flows import events
from flows.artifacts import publish_refresh
from flows.limit import insist_on_limit
from flows.parameters import Approval, BaseModel, Label, Labels, LabelScale, Left, Name, Recipe, Right, Unlabelled
from stsb_batch.errors import GateRefused
from stsb_batch.models import decisions, registry
from stsb_batch.pairs.label_scale import parse_scale
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh import job as refresh


def refresh_run_name() -> str:
    given = flow_run.parameters
    return f"refresh {given['name']} from {given['labels']} ({given['recipe']})"


@task(task_run_name="train {plan.recipe.name} on {plan.request.base_model}", persist_result=False)
def train(plan: refresh.RefreshPlan) -> str:
    """Train a candidate and return its folder."""
    return str(refresh.train_candidate(plan))


@task(task_run_name="gate against the champion", persist_result=False)
def gate(plan: refresh.RefreshPlan, candidate: str) -> refresh.RefreshOutcome:
    """Measure and register the candidate, and hold it against the champion."""
    return refresh.judge_candidate(plan, Path(candidate))


@task(task_run_name="promote {version.reference}", persist_result=False)
def promote(plan: refresh.RefreshPlan, version: registry.Version) -> None:
    """Make the version the champion, unless another one became so since it was measured."""
    registry.promote_over_parent(plan.request.settings.home, version, "passed the gate")


@task(task_run_name="{answer.decision} {version.reference}", persist_result=False)
def decide(plan: refresh.RefreshPlan, version: registry.Version, answer: asking.Decision) -> None:
    """Do what somebody decided, and keep it with the version's card."""
    if answer.decision == "promote":
        decisions.approve(plan.request.settings.home, version, answer.name, answer.reason)
    else:
        decisions.record(version, "reject", answer.name, answer.reason)


def labels_refused(error: GateRefused) -> str:
    """Tell that no model from these labels can pass the gate; return what the run's state says behind `Completed`."""
    message = f"gate refused the labels, the champion stays: {error}"
    get_run_logger().error(message)
    events.tell(events.GATE_REFUSED, message)
    return ", gate refused"


def settle(plan: refresh.RefreshPlan, outcome: refresh.RefreshOutcome, approval: str) -> str:
    """Promote what passed, or ask somebody; return what the run's state says behind `Completed`."""
    version, home = outcome.version, plan.request.settings.home
    if not outcome.decision.passed:
        return ", gate refused"
    if not refresh.awaits_promotion(home, outcome):
        return ", rejected" if decisions.is_rejected(version) else overtaken(home, outcome)
    if approval == "auto":
        promote(plan, version)
        return ""
    if not asking.can_suspend():
        get_run_logger().warning(
            "%s passed its gate and is not champion yet: stsb-batch models promote %s", version.reference, version.reference
        )
        return ", awaits approval"
    answer = asking.ask(outcome)
    decide(plan, version, answer)
    return ", approved" if answer.decision == "promote" else ", rejected"


def overtaken(home: Path, outcome: refresh.RefreshOutcome) -> str:
    """Keep what somebody decided about a version whose turn has passed; return what the run's state says of it."""
    version = outcome.version
    if not asking.is_resumed() or registry.model_name(home, "champion") == version.reference:
        return ""
    answer = asking.ask(outcome)
    reason = f"{answer.reason} (nothing was moved: the champion had changed meanwhile)"
    decisions.record(version, answer.decision, answer.name, reason)
    return ", champion changed meanwhile"


@flow(name="refresh", flow_run_name=refresh_run_name, persist_result=False)
def refresh_flow(
    labels: Labels,
    base_model: BaseModel = "distilbert-base-uncased",
    recipe: Recipe = "reference",
    name: Name = "sts",
    *,
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    label_scale: LabelScale = None,
    unlabelled: Unlabelled = None,
    approval: Approval = "auto",
) -> State:
    """Train and gate when labels, base or recipe are new; then promote, or wait for somebody's decision.

    While it waits the run is suspended and holds no process: Resume in the run's menu opens the form. All steps before
    are found done when it goes on.
    """
    insist_on_limit()
    try:
        columns = Columns(left, right, label, label_scale=parse_scale(label_scale))
        plan = refresh.plan_refresh(refresh.RefreshRequest(labels, base_model, recipe, name, columns, unlabelled=unlabelled))
    except GateRefused as error:
        return Completed(name=f"Completed{labels_refused(error)}", data={"model": None, "passed": False, "trained": False})
    outcome = refresh.find_done(plan) or gate(plan, train(plan))
    if outcome.trained and not outcome.decision.passed:
        failed = "; ".join(check.detail for check in outcome.decision.failed)
        events.tell(events.GATE_REFUSED, f"{outcome.version.reference} was refused, the champion stays: {failed}")
    if outcome.trained or not asking.is_resumed():
        publish_refresh(outcome)
    note = settle(plan, outcome, approval)
    done = {"model": outcome.version.reference, "passed": outcome.decision.passed, "trained": outcome.trained}
    return Completed(name=f"Completed{note}", data=done)
