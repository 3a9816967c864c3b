"""The demo: the nightly chain on a small warehouse, with output for people."""

import time
from pathlib import Path

from rich.markup import escape

from stsb_batch.cli.model_views import show_refresh
from stsb_batch.cli.output import out, row_progress, step_progress
from stsb_batch.cli.views import nearby, show_outcome
from stsb_batch.demo.warehouse import create_warehouse
from stsb_batch.errors import GateRefused
from stsb_batch.models.base import find_base_model
from stsb_batch.refresh.job import refresh
from stsb_batch.requests import RefreshRequest, ScoreRequest
from stsb_batch.scoring.job import score_dataset
from stsb_batch.settings import load_settings


def run_demo(folder: Path) -> None:
    """Create the warehouse, refresh, promote, score, report. The registry is the demo's own, in `folder/home`.

    A second run finds the work done and takes seconds. Raises `GateRefused` when the model does not pass the gate.
    """
    began = time.monotonic()
    find_base_model("minilm")  # fails here, before anything is written
    _say(1, f"a small warehouse in {nearby(folder.resolve())}: labelled pairs, and last night's pairs without labels")
    warehouse = create_warehouse(folder)
    settings = load_settings().model_copy(update={"home": warehouse.home})

    _say(2, "refresh: MiniLM learns from its own similarities, then from the labels; the gate decides (about 4 minutes)")
    request = RefreshRequest(
        labels=str(warehouse.labels), base_model="minilm", recipe="silver", name="demo", settings=settings
    )
    with step_progress() as advance:
        refreshed = refresh(request, progress=advance)
    show_refresh(refreshed, as_json=False)
    if not refreshed.decision.passed:
        raise GateRefused("The demo's model did not pass the gate, so there is no champion to score with.")

    _say(3, "score last night's pairs with the champion, and report")
    with row_progress() as show:
        outcome = score_dataset(
            ScoreRequest(str(warehouse.pairs), settings=settings),
            on_progress=show,
        )
    show_outcome(outcome, as_json=False)

    _say(4, f"done in {time.monotonic() - began:,.0f} s")
    out.print(f"labels  {nearby(warehouse.labels)}\nmodels  {nearby(warehouse.home / 'models')}\n\nTry next:")
    home = f"STSB_BATCH_HOME={nearby(warehouse.home)} stsb-batch"
    for command in (
        f'{home} pair "Blue cotton shirt, size M" "Shirt, cotton, blue, medium"',
        f"{home} report {nearby(outcome.target.root)}",
        f"{home} models show champion",
    ):
        out.print(f"  {escape(command)}", style="bold")


def _say(step: int, text: str) -> None:
    out.print(f"\n{step}. {escape(text)}", style="bold")
