"""Move the champion by hand from the Prefect UI: promote, roll back."""

from prefect import flow, get_run_logger
from prefect.states import Completed, State

from flows.parameters import By, Passed, Reason
from stsb_batch.errors import StsbBatchError
from stsb_batch.models import decisions, registry
from stsb_batch.settings import load_settings


@flow(name="promote", flow_run_name="promote", persist_result=False)
def promote_flow(model: Passed = None, by: By = "Prefect UI", reason: Reason = "by hand") -> State:
    """Make a version that passed its gate the champion: the one named, or the newest."""
    home = load_settings().home
    version = registry.find_version(home, model) if model else decisions.newest_passed(home)
    decisions.approve(home, version, by, reason)
    return completed(f"champion is {version.reference}")


@flow(name="rollback", flow_run_name="rollback", persist_result=False)
def rollback_flow(by: By = "Prefect UI", reason: Reason = "by hand") -> State:
    """Make the champion before the present one champion again."""
    home = load_settings().home
    left = registry.model_name(home, "champion")
    version = registry.rollback(home)
    try:
        decisions.record(registry.find_version(home, left), "rollback", by, reason)
    except StsbBatchError as error:  # a damaged card is a good reason to roll back
        get_run_logger().warning("not kept with the card of %s: %s", left, error)
    return completed(f"champion is {version.reference}, it was {left}")


def completed(message: str) -> State:
    """Log a message and end with it."""
    get_run_logger().info(message)
    return Completed(message=message)
