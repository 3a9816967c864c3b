"""Schedules of nights, as the command line makes them."""

from flows.serve import Schedule
from stsb_batch.requests import nightly_request


def schedule_of(location: str, output: str, cron: str = "0 2 * * *", **options: object) -> Schedule:
    """Return the schedule of a nightly run with these options."""
    return Schedule(nightly_request({"location": location, "output": output, **options}), cron)
