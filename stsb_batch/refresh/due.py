"""Is a refresh due: new labels, the age of the newest model, drift."""

import datetime as dt
from dataclasses import dataclass

from stsb_batch.models.registry import readable_versions
from stsb_batch.refresh.job import RefreshPlan, awaits_promotion, find_done


@dataclass(frozen=True)
class Due:
    """The answer, and why in words."""

    is_due: bool
    reason: str


def refresh_due(plan: RefreshPlan, *, every_days: int, drifted_at: dt.datetime | None, now: dt.datetime) -> Due:
    """Say whether a refresh is due: labels, base or recipe are new, and the newest model is old enough or scores drifted.

    Without anything new to train from the same model would come out, so neither age nor drift make it due.
    """
    home = plan.request.settings.home
    if done := find_done(plan):
        if awaits_promotion(home, done):
            return Due(True, f"{done.version.reference} passed its gate and has not been promoted")
        return Due(False, f"labels, base model and recipe are those of {done.version.reference}: nothing new to train from")
    made = [version for version in readable_versions(home) if version.card["name"] == plan.request.name]
    if not made:
        return Due(True, "there is no model yet")
    newest = made[-1]
    created = dt.datetime.fromisoformat(newest.card["created_at"])
    if drifted_at and drifted_at > created:
        return Due(True, f"scores have drifted since {newest.reference} was made, and there is something new to train from")
    days = (now - created) / dt.timedelta(days=1)
    age = f"something new to train from, {newest.reference} is {days:.1f} days old, a refresh every {every_days} days"
    return Due(days >= every_days, age)
