"""The verbs about models in the making: train one and let the gate decide, measure one."""

from pathlib import Path
from typing import Annotated

import typer

from stsb_batch.cli.options import AsJson, pick, score_request, takes
from stsb_batch.errors import GateRefused
from stsb_batch.fields import fields_of
from stsb_batch.requests import RefreshRequest, ScoreRequest

training = typer.Typer()


@training.command(epilog="Example: stsb-batch evaluate labelled.parquet --model sts@2")
@takes(score_request, pick("left", "right", "label", "label_scale", "model", "engine", "precision"))
def evaluate(
    request: ScoreRequest,
    labelled: Annotated[str, typer.Argument(help="labelled Parquet, a folder with splits, or glue/stsb")],
    plots: Annotated[
        Path | None, typer.Option("--plots", help="folder for scatter.png and residuals.png (default: LABELLED.evaluation)")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled pairs.

    Metrics with intervals by split, reliability by score band, order symmetry, conformal half-width, and two plots.
    """
    from stsb_batch.cli.model_views import show_evaluation
    from stsb_batch.cli.output import echo
    from stsb_batch.cli.views import nearby
    from stsb_batch.refresh.evaluate import evaluate_labels, save_pictures

    found = evaluate_labels(labelled, model=request.model, columns=request.columns, settings=request.settings)
    show_evaluation(found, as_json=as_json)
    for path in save_pictures(found, plots or _beside(labelled)):
        echo(f"saved {nearby(path.resolve())}")


@training.command(epilog="Example: stsb-batch refresh --labels labelled.parquet --base-model minilm")
@takes(lambda values: RefreshRequest(**values), fields_of(RefreshRequest))
def refresh(
    request: RefreshRequest,
    show_texts: Annotated[bool, typer.Option("--show-texts", help="print the texts of the ten worst movers")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="train, measure and register, but promote nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model; promote it if it passes the gate."""
    from stsb_batch.cli.model_views import show_refresh
    from stsb_batch.cli.output import step_progress
    from stsb_batch.models.registry import champions
    from stsb_batch.refresh.job import refresh as run_refresh

    with step_progress() as advance:
        outcome = run_refresh(request, progress=advance, dry_run=dry_run)
    show_refresh(outcome, champions(request.settings.home)["stack"], texts=show_texts, as_json=as_json)
    raise typer.Exit(0 if outcome.decision.passed else GateRefused.exit_code)


def _beside(labelled: str) -> Path:
    """Name the folder beside the labels; plots of GLUE's labels go to the present folder."""
    path = Path(labelled).resolve() if Path(labelled).exists() else Path("glue-stsb")
    return path.with_name(f"{path.stem if path.is_file() else path.name}.evaluation")
