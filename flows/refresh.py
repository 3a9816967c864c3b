"""Refresh the model: train, gate, promote; nothing is trained twice from the same labels, base and recipe."""

from pathlib import Path

from prefect import flow, task
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows.artifacts import publish_refresh
from stsb_batch.jobs import refresh
from stsb_batch.models import registry
from stsb_batch.pairs.schema import Columns


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
    """Make the version the champion."""
    registry.promote(plan.request.settings.home, version, "passed the gate")


@flow(name="refresh", flow_run_name=refresh_run_name, persist_result=False)
def refresh_flow(
    labels: str,
    base_model: str = "distilbert-base-uncased",
    recipe: str = "reference",
    name: str = "sts",
    *,
    left: str = "sentence1",
    right: str = "sentence2",
    label: str | None = None,
) -> State:
    """Train, gate and promote when labels, base or recipe are new; return the model and the verdict."""
    plan = refresh.plan_refresh(refresh.RefreshRequest(labels, base_model, recipe, name, Columns(left, right, label)))
    outcome = refresh.find_done(plan)
    if outcome is None:
        outcome = gate(plan, train(plan))
    if refresh.awaits_promotion(plan.request.settings.home, outcome):
        promote(plan, outcome.version)
    publish_refresh(outcome)
    done = {"model": outcome.version.reference, "passed": outcome.decision.passed, "trained": outcome.trained}
    return Completed(name="Completed" if outcome.decision.passed else "Completed, gate refused", data=done)
