"""One night: refresh when it is due, then score into the night's folder; earlier run dates without scores are backfilled."""

import datetime as dt
from typing import Any, cast

from prefect import flow, get_run_logger, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows import TAG, approval, events
from flows.parameters import takes
from flows.refresh import labels_refused, refresh_flow
from flows.score import score_flow
from flows.server import prefect_home, server_address
from stsb_batch.errors import BusyError, GateRefused, UnavailableError
from stsb_batch.models.registry import model_name
from stsb_batch.refresh.due import refresh_due
from stsb_batch.refresh.job import plan_refresh
from stsb_batch.requests import (
    NightlyRequest,
    RefreshRequest,
    nightly_fields,
    nightly_request,
    options_of,
)
from stsb_batch.schedule import run_dates
from stsb_batch.settings import check_prefect_home, load_settings


def run_date() -> str:
    """Return the run date of the present run: the one asked for, or the date of the scheduled start."""
    given = flow_run.parameters
    if given["night"]:
        return run_dates.parse_run_date(given["night"])
    return run_dates.run_date_of(flow_run.scheduled_start_time, given["timezone"])


def nightly_run_name() -> str:
    return f"night {run_date()}"


@flow(name="nightly", flow_run_name=nightly_run_name, persist_result=False)
@tags(TAG)
@takes(nightly_fields())
def run_night(given: dict[str, Any]) -> State:
    """Run one night: scores of the pairs at `location` go to `output/<night>`, with those of run dates to backfill.

    A run date that is complete is left alone. A refresh that fails, is refused or takes too long never holds up the scores:
    the champion stays and the state's name says so. With manual approval the refresh starts after scoring. Returns the exit
    code of the scores.
    """
    log, request = get_run_logger(), nightly_request(given)
    scheduled = flow_run.scheduled_start_time
    own, deadline = run_date(), run_dates.deadline_of(request.deadline, scheduled, request.timezone)
    newest = own if request.night else run_dates.newest_run_date(scheduled, dt.datetime.now(dt.UTC), request.timezone)
    dates = run_dates.dates_to_score(request.location, request.output, own, newest)
    if not dates:
        message = f"night {own} was done before: {run_dates.output_of(request.output, own)}"
        log.info(message)
        return Completed(name="Completed, done before", message=message, data=0)
    if dates != [own]:
        log.warning("run dates to score: %s (earlier ones are backfilled)", ", ".join(dates))

    suffix = ""
    if request.labels and request.approval == "auto":
        suffix = refresh_if_due(request.refresh, request)
    name_run(f"night {own} with {model_name(load_settings().home, 'champion')}")

    codes, scored, failed = [], [], []
    for date in dates:
        state = score_date(request, date, deadline)
        if state.is_completed():
            done = cast(dict[str, Any], state.result())
            scored.append(f"{done['rows']:,} rows scored into {done['output']}")
            codes.append(done["exit_code"])
            suffix += "".join(f", {warning}" for warning in done["warnings"] if warning not in suffix)
        else:
            log.error("night %s: %s", date, state.message)
            failed.append(error_of(state, date, request.score_hours))
    if request.labels and request.approval == "manual":
        suffix += start_refresh_if_due(request.refresh, request)
    message = "; ".join(scored)
    log.info(message)
    if failed:
        raise failed[0]
    return Completed(name=f"Completed{suffix}", message=message, data=max(codes))


def score_date(request: NightlyRequest, date: str, deadline: dt.datetime | None) -> State:
    """Score the pairs of a run date as a subflow; returns its state."""
    options = options_of(request.score) | {
        "location": run_dates.input_of(request.location, date),
        "output": str(run_dates.output_of(request.output, date)),
        "model": run_dates.model_of(request.output, date),
    }
    limited = score_flow.with_options(timeout_seconds=request.score_hours * 3600)
    return limited(**options, deadline=deadline, return_state=True)


def run_night_here(request: NightlyRequest) -> int:
    """Run one night in this process, with no deployment, under the tag that one would give it; returns its exit code."""
    if server_address()[0] is None:
        check_prefect_home(prefect_home())  # the run brings its own server
    try:
        with tags(TAG):
            return cast(int, run_night(**options_of(request)))
    except RuntimeError as error:
        if "ephemeral" not in str(error):
            raise
        raise UnavailableError(
            f"Prefect's temporary server did not start in time. Its files are in {prefect_home()}. "
            "Run `stsb-batch doctor`, or start a server (prefect server start) and name it in PREFECT_API_URL."
        ) from error


def error_of(state: State, date: str, hours: float) -> Exception:
    """Return the error that the scoring of a run date failed with; its message names the date."""
    if state.name == "TimedOut":
        return BusyError(f"night {date}: not done within {hours:g} hours. Run it again to continue.")
    error = cast(Exception, state.result(raise_on_failure=False))
    error.args = (f"night {date}: {error}",)
    return error


def name_run(name: str) -> None:
    """Rename the present run, now that its model is known."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=name)


def is_due(request: RefreshRequest, every_days: int) -> bool:
    """Say whether a refresh is due, and log why."""
    due = refresh_due(
        plan_refresh(request), every_days=every_days, drifted_at=events.last_drift(), now=dt.datetime.now(dt.UTC)
    )
    get_run_logger().info("refresh %s: %s", "is due" if due.is_due else "is not due", due.reason)
    return due.is_due


def refresh_failed(reason: object) -> str:
    """Report that the refresh failed; returns the suffix of the night's state."""
    message = f"refresh failed, the champion stays: {reason}"
    get_run_logger().error(message)
    events.emit(events.REFRESH_FAILED, message)
    return ", refresh failed"


def refresh_if_due(request: RefreshRequest, nightly: NightlyRequest) -> str:
    """Refresh when it is due, for its hours at most; returns the suffix of the night's state."""
    try:
        if not is_due(request, nightly.refresh_days):
            return ""
    except GateRefused as error:
        return labels_refused(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it does not hold up the night's scores
        return refresh_failed(error)
    limited = refresh_flow.with_options(timeout_seconds=nightly.refresh_hours * 3600)
    state: State = limited(**options_of(request), return_state=True)
    if not state.is_completed():
        return refresh_failed(state.message)
    return "" if cast(dict[str, Any], state.result())["passed"] else ", gate refused the new model"


def start_refresh_if_due(request: RefreshRequest, nightly: NightlyRequest) -> str:
    """Start a refresh of its own when it is due and none awaits approval; returns the suffix of the night's state."""
    try:
        if waiting := approval.waiting_run():
            get_run_logger().info("no refresh: '%s' awaits approval", waiting)
            return ", awaits approval"
        if not is_due(request, nightly.refresh_days):
            return ""
        options = options_of(request) | {"approval": "manual"}
        run = cast(FlowRun, run_deployment("refresh/refresh", parameters=options, timeout=0, as_subflow=False))
        get_run_logger().info("started '%s'; it awaits approval when it has passed its gate", run.name)
    except Exception as error:  # noqa: BLE001 - the scores are there already
        return refresh_failed(error)
    return ", refresh started"
