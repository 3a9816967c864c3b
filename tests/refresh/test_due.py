"""When a refresh is due: new labels, age, drift."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from stsb_batch.models import decisions, registry
from stsb_batch.refresh.due import refresh_due
from stsb_batch.refresh.job import RefreshPlan, plan_refresh
from stsb_batch.requests import RefreshRequest
from tests.builders import add_version, made_from_plan, make_pairs

NOW = dt.datetime(2126, 1, 10, tzinfo=dt.UTC)


@pytest.fixture
def plan(bert: Path, tmp_path: Path) -> RefreshPlan:
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    return plan_refresh(RefreshRequest(str(tmp_path / "labels.parquet"), str(bert)))


@pytest.fixture
def model(plan: RefreshPlan, bert: Path, settings) -> registry.Version:
    """A champion made from other labels, just now."""
    version = add_version(settings.home, bert)
    registry.promote(settings.home, version, "test")
    return version


def created(version: registry.Version) -> dt.datetime:
    return dt.datetime.fromisoformat(version.card["created_at"])


def due(plan: RefreshPlan, *, days: float, model: registry.Version, drifted_days: float | None = None):
    """Ask so many days after the model was made, every seven days; drift was told so many days after it was made."""
    drifted_at = None if drifted_days is None else created(model) + dt.timedelta(days=drifted_days)
    return refresh_due(plan, every_days=7, drifted_at=drifted_at, now=created(model) + dt.timedelta(days=days))


def test_the_first_model_is_due(plan: RefreshPlan):
    """Without any model of that name there is nothing to wait for."""
    assert refresh_due(plan, every_days=7, drifted_at=None, now=NOW).is_due


@pytest.mark.parametrize(("days", "is_due"), [(6.9, False), (7.0, True)])
def test_new_labels_wait_for_the_model_s_age(plan: RefreshPlan, model, days: float, is_due: bool):
    """With new labels a refresh is due once the newest model is as old as it may be."""
    found = due(plan, days=days, model=model)
    assert found.is_due is is_due
    assert "sts@1" in found.reason


@pytest.mark.parametrize(("drifted", "is_due"), [(1.0, True), (-1.0, False)])
def test_drift_since_the_model_was_made_does_not_wait(plan: RefreshPlan, model, drifted: float, is_due: bool):
    """Drift that is newer than the model makes a refresh due at once; drift before it was answered by it."""
    assert due(plan, days=2, model=model, drifted_days=drifted).is_due is is_due


def test_nothing_new_to_train_from_is_never_due(plan: RefreshPlan, model, bert: Path, settings):
    """The same labels, base and recipe would give the same model, however old it is and whatever drifted."""
    made = made_from_plan(plan, bert, settings.home)
    registry.promote(settings.home, made, "test")
    found = due(plan, days=400, model=made, drifted_days=399)
    assert not found.is_due
    assert "nothing is new" in found.reason


def test_a_model_that_waits_for_its_promotion_is_due_until_it_is_rejected(plan: RefreshPlan, model, bert: Path, settings):
    """What passed its gate and was not promoted is taken up again, unless somebody rejected it."""
    made = made_from_plan(plan, bert, settings.home)
    assert due(plan, days=0, model=made).is_due
    decisions.record(made, "reject", "somebody", "too soon")
    assert not due(plan, days=0, model=made).is_due


def test_another_recipe_is_something_new(plan: RefreshPlan, model, bert: Path, settings):
    """A plan differs from the last one by its recipe too."""
    registry.promote(settings.home, made_from_plan(plan, bert, settings.home), "test")
    other = replace(plan, fingerprint=plan.fingerprint | {"recipe": "other"})
    assert refresh_due(other, every_days=0, drifted_at=None, now=NOW).is_due
