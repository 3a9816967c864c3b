"""One night: refresh when it is due, then score into the night's own folder, and nights that were missed into theirs."""

import datetime as dt

from prefect import flow, get_run_logger, tags
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows import TAG, events
from flows import approval as asking
from flows.parameters import (
    Approval,
    BaseModel,
    DoneBy,
    Label,
    LabelScale,
    Left,
    MaxBadFiles,
    MaxBadRows,
    Night,
    NightLabels,
    NightLocation,
    Output,
    Recipe,
    RefreshDays,
    RefreshHours,
    Right,
    ScoreHours,
    Strictness,
    Timezone,
    WarnBadRows,
)
from flows.refresh import labels_refused, refresh_flow
from flows.score import score_flow
from flows.server import prefect_home, server_address
from stsb_batch.errors import BusyError, GateRefused, UnavailableError
from stsb_batch.models.registry import model_name
from stsb_batch.pairs.label_scale import parse_scale
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.due import refresh_due
from stsb_batch.refresh.job import plan_refresh
from stsb_batch.requests import RefreshRequest
from stsb_batch.schedule import run_dates as nights
from stsb_batch.settings import check_prefect_home, load_settings


def own_night() -> str:
    """Name the night of the present run: the one asked for, or the date of the scheduled start."""
    given = flow_run.parameters
    if given["night"]:
        return nights.parse_run_date(given["night"])
    return nights.run_date_of(flow_run.scheduled_start_time, given["timezone"])


def nightly_run_name() -> str:
    return f"night {own_night()}"


@flow(name="nightly", flow_run_name=nightly_run_name, persist_result=False)
@tags(TAG)
def run_night(
    location: NightLocation,
    output: Output,
    night: Night = None,
    *,
    timezone: Timezone = "UTC",
    labels: NightLabels = None,
    base_model: BaseModel = "distilbert-base-uncased",
    recipe: Recipe = "reference",
    refresh_days: RefreshDays = 7,
    refresh_hours: RefreshHours = 4,
    approval: Approval = "auto",
    score_hours: ScoreHours = 10,
    done_by: DoneBy = None,
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    label_scale: LabelScale = None,
    max_bad_rows: MaxBadRows = 0.05,
    max_bad_files: MaxBadFiles = 0.01,
    warn_bad_rows: WarnBadRows = 0.01,
    strictness: Strictness = "normal",
) -> State:
    """Run one night: scores of the pairs at `location` go to `output/<night>`, with those of nights that were missed.

    A night that is done is left alone. A refresh that fails, is refused or takes too long never keeps the scores waiting:
    the champion stays and the state's name says so. With manual approval the refresh starts when the scores are there.
    Returns the exit code of the scores.
    """
    log = get_run_logger()
    scheduled = flow_run.scheduled_start_time
    own, finish = own_night(), nights.deadline_of(done_by, scheduled, timezone)
    newest = own if night else nights.newest_run_date(scheduled, dt.datetime.now(dt.UTC), timezone)
    due = nights.dates_to_score(location, output, own, newest)
    if not due:
        message = f"night {own} was done before: {nights.output_of(output, own)}"
        log.info(message)
        return Completed(name="Completed, done before", message=message, data=0)
    if due != [own]:
        log.warning("nights to score: %s (those before were missed)", ", ".join(due))

    columns = {"left": left, "right": right, "label": label, "label_scale": label_scale}
    of_request = Columns(left, right, label, label_scale=parse_scale(label_scale))
    request = RefreshRequest(labels or "", base_model, recipe, columns=of_request)
    wanted = {"labels": labels, "base_model": base_model, "recipe": recipe} | columns
    note = ""
    if labels and approval == "auto":
        note = refresh_if_due(request, wanted, refresh_days, refresh_hours)
    name_run(f"night {own} with {model_name(load_settings().home, 'champion')}")

    wanted_scores = columns | {"done_by": finish}
    wanted_scores |= {"max_bad_rows": max_bad_rows, "max_bad_files": max_bad_files}
    wanted_scores |= {"warn_bad_rows": warn_bad_rows, "strictness": strictness}
    limited = score_flow.with_options(timeout_seconds=score_hours * 3600)
    told, codes, failed = [], [], []
    for date in due:
        place = str(nights.output_of(output, date))
        model = nights.model_of(output, date)
        scored = limited(nights.input_of(location, date), place, model=model, **wanted_scores, return_state=True)
        if scored.is_completed():
            done = scored.result()
            told.append(f"{done['rows']:,} rows scored into {done['output']}")
            codes.append(done["exit_code"])
            note += "".join(f", {remark}" for remark in done["remarks"] if remark not in note)
        else:
            log.error("night %s: %s", date, scored.message)
            failed.append(error_of(scored, date, score_hours))
    if labels and approval == "manual":
        note += start_refresh_if_due(request, wanted, refresh_days)
    message = "; ".join(told)
    log.info(message)
    if failed:
        raise failed[0]
    return Completed(name=f"Completed{note}", message=message, data=max(codes))


def run_night_here(**given) -> int:
    """Run one night in this process, with no deployment, under the tag that one would give it; returns its exit code."""
    if server_address()[0] is None:
        check_prefect_home(prefect_home())  # the run brings its own server
    try:
        with tags(TAG):
            return run_night(**given)
    except RuntimeError as error:
        if "ephemeral" not in str(error):
            raise
        raise UnavailableError(
            f"Prefect's temporary server did not start within its time. Its files lie in {prefect_home()}. "
            "See what `stsb-batch doctor` says, or start a server (prefect server start) and name it in PREFECT_API_URL."
        ) from error


def error_of(state: State, night: str, hours: float) -> Exception:
    """Return the error that a night failed with; its message names the night."""
    if state.name == "TimedOut":
        return BusyError(f"night {night}: not done within {hours:g} hours. Run it again to go on where it was.")
    error = state.result(raise_on_failure=False)
    error.args = (f"night {night}: {error}",)
    return error


def name_run(name: str) -> None:
    """Give the present run another name, now that its model is known."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=name)


def is_due(request: RefreshRequest, every_days: int) -> bool:
    """Say whether a refresh is due, and why, in the log."""
    due = refresh_due(
        plan_refresh(request), every_days=every_days, drifted_at=events.last_drift(), now=dt.datetime.now(dt.UTC)
    )
    get_run_logger().info("refresh %s: %s", "is due" if due.is_due else "is not due", due.reason)
    return due.is_due


def refresh_failed(reason: object) -> str:
    """Tell that the refresh failed; return what the night's state says of it."""
    message = f"refresh failed, the champion stays: {reason}"
    get_run_logger().error(message)
    events.tell(events.REFRESH_FAILED, message)
    return ", refresh failed"


def refresh_if_due(request: RefreshRequest, wanted: dict, every_days: int, hours: float) -> str:
    """Refresh when it is due, for so many hours at most; return what the night's state says of it."""
    try:
        if not is_due(request, every_days):
            return ""
    except GateRefused as error:
        return labels_refused(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the night's scores do not wait for it
        return refresh_failed(error)
    state = refresh_flow.with_options(timeout_seconds=hours * 3600)(**wanted, return_state=True)
    if not state.is_completed():
        return refresh_failed(state.message)
    return "" if state.result()["passed"] else ", gate refused the new model"


def start_refresh_if_due(request: RefreshRequest, wanted: dict, every_days: int) -> str:
    """Start a refresh of its own when it is due and none waits for a decision; return what the night's state says."""
    try:
        if waiting := asking.waiting_run():
            get_run_logger().info("no refresh: '%s' waits for a decision", waiting)
            return ", awaits approval"
        if not is_due(request, every_days):
            return ""
        run = run_deployment("refresh/refresh", parameters=wanted | {"approval": "manual"}, timeout=0, as_subflow=False)
        get_run_logger().info("started '%s'; it waits for a decision when it has passed its gate", run.name)
    except Exception as error:  # noqa: BLE001 - the scores are there already
        return refresh_failed(error)
    return ", refresh started"
