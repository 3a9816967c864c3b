"""Decide whether a refresh is due: by new labels, the age of the newest model, and drift."""

import datetime as dt
from dataclasses import dataclass

from stsb_batch.models.registry import readable_versions
from stsb_batch.refresh.job import RefreshPlan, awaits_promotion, find_done


@dataclass(frozen=True)
class Due:
    """Whether a refresh is due, and why."""

    is_due: bool
    reason: str


def refresh_due(plan: RefreshPlan, *, every_days: int, drifted_at: dt.datetime | None, now: dt.datetime) -> Due:
    """Say whether a refresh is due.

    It is when labels, base model or recipe are new and either the newest model is at least `every_days` old or scores have
    drifted since it was made (`drifted_at`). With nothing new, training would give the same model again.
    """
    home = plan.request.settings.home
    if done := find_done(plan):
        if awaits_promotion(home, done):
            return Due(True, f"{done.version.reference} passed its gate and has not been promoted")
        return Due(False, f"labels, base model and recipe are those of {done.version.reference}, nothing is new")
    made = [version for version in readable_versions(home) if version.card["name"] == plan.request.name]
    if not made:
        return Due(True, "there is no model yet")
    newest = made[-1]
    created = dt.datetime.fromisoformat(newest.card["created_at"])
    if drifted_at and drifted_at > created:
        return Due(True, f"scores have drifted since {newest.reference} was made, and labels, base model or recipe are new")
    days = (now - created) / dt.timedelta(days=1)
    age = f"{newest.reference} is {days:.1f} days old, with a refresh every {every_days} days"
    return Due(days >= every_days, f"labels, base model or recipe are new, and {age}")
