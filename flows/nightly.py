"""One night: refresh when the labels are new, then score into the night's own folder, with a report on the run page."""

import datetime as dt
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows.refresh import refresh_flow
from flows.score import remark, score_flow


def nightly_run_name() -> str:
    return f"night {flow_run.parameters['night'] or dt.date.today()}"


@flow(name="nightly", flow_run_name=nightly_run_name, persist_result=False)
def run_night(
    location: str,
    output: str,
    night: str | None = None,
    *,
    labels: str | None = None,
    base_model: str = "distilbert-base-uncased",
    recipe: str = "reference",
    left: str = "sentence1",
    right: str = "sentence2",
    label: str | None = None,
) -> State:
    """Run one night. `{night}` in `location` becomes the date; scores go to `output/<night>`.

    A refresh that fails or is refused never keeps the scores waiting: the champion stays and the state's name says so.
    """
    logger = get_run_logger()
    night = night or dt.date.today().isoformat()
    note = ""
    if labels:
        state = refresh_flow(labels, base_model, recipe, left=left, right=right, label=label, return_state=True)
        if not state.is_completed():
            logger.error("refresh failed, the champion stays: %s", state.message)
            note = ", refresh failed"
        elif not state.result()["passed"]:
            note = ", gate refused the new model"
    scored = score_flow(location.replace("{night}", night), str(Path(output) / night), left=left, right=right, label=label)
    note += remark(scored)
    message = f"{scored['rows']:,} rows scored into {scored['output']}{note}"
    logger.info(message)
    return Completed(name=f"Completed{note}", message=message)
