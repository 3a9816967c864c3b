"""The verbs about models in the making: train one and let the gate decide, measure one."""

from pathlib import Path
from typing import Annotated

import typer

from stsb_batch.cli.models import AsJson, Label, LabelScale, Left, Model, Right, settings_with
from stsb_batch.errors import UsageError

training = typer.Typer()


@training.command(epilog="Example: stsb-batch evaluate labelled.parquet --model sts@2")
def evaluate(
    labelled: Annotated[str, typer.Argument(help="labelled Parquet, a folder with splits, or glue/stsb")],
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    label_scale: LabelScale = None,
    model: Model = "champion",
    plots: Annotated[
        Path | None, typer.Option("--plots", help="folder for scatter.png and residuals.png (default: LABELLED.evaluation)")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled pairs: metrics by split, reliability, order symmetry, half-width, plots."""
    from stsb_batch.cli.model_views import show_evaluation
    from stsb_batch.cli.output import err
    from stsb_batch.cli.views import nearby
    from stsb_batch.pairs.label_scale import parse_scale
    from stsb_batch.pairs.schema import Columns
    from stsb_batch.refresh.evaluate import evaluate_labels, save_pictures

    columns = Columns(left, right, label, label_scale=parse_scale(label_scale))
    found = evaluate_labels(labelled, model=model, columns=columns, settings=settings_with())
    show_evaluation(found, as_json=as_json)
    for path in save_pictures(found, plots or _beside(labelled)):
        err.print(f"saved {nearby(path.resolve())}", soft_wrap=True)


@training.command(epilog="Example: stsb-batch refresh --labels labelled.parquet --base-model minilm")
def refresh(
    labels: Annotated[
        str, typer.Option("--labels", help="labelled Parquet, a folder with splits, or glue/stsb")
    ] = "glue/stsb",
    base_model: Annotated[
        str, typer.Option("--base-model", help="hub id, folder, or minilm (offline)")
    ] = "distilbert-base-uncased",
    recipe: Annotated[
        str, typer.Option("--recipe", help="reference; best or, shorter, silver from a sentence encoder")
    ] = "reference",
    name: Annotated[str, typer.Option("--name", help="name of the model in the registry")] = "sts",
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    label_scale: LabelScale = None,
    floor: Annotated[float, typer.Option("--floor", help="test Pearson below which nothing is promoted")] = 0.6,
    slice_column: Annotated[
        str | None,
        typer.Option("--slice", help="column of the labels whose parts must each hold (default: thirds by length)"),
    ] = None,
    churn_sample: Annotated[
        str | None, typer.Option("--churn-sample", help="Parquet of real pairs that champion and challenger both score")
    ] = None,
    thresholds: Annotated[str, typer.Option("--thresholds", help="scores at which your matches are decided")] = "2.5",
    max_churn: Annotated[
        float | None, typer.Option("--max-churn", min=0, max=1, help="share of pairs that may cross a threshold")
    ] = None,
    show_texts: Annotated[bool, typer.Option("--show-texts", help="print the texts of the ten worst movers")] = False,
    unlabelled: Annotated[
        str | None,
        typer.Option("--unlabelled", help="Parquet of your own pairs, for the silver stage"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="train, measure and register, but promote nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a model, hold it against the champion, and promote it when it passes."""
    from stsb_batch.cli.model_views import show_refresh
    from stsb_batch.cli.output import step_progress
    from stsb_batch.models.registry import champions
    from stsb_batch.pairs.label_scale import parse_scale
    from stsb_batch.pairs.schema import Columns
    from stsb_batch.refresh.job import RefreshRequest
    from stsb_batch.refresh.job import refresh as run_refresh

    if max_churn is not None and churn_sample is None:
        raise UsageError("--max-churn needs --churn-sample: name Parquet of last night's pairs.")
    settings = settings_with()
    request = RefreshRequest(
        labels,
        base_model,
        recipe,
        name,
        Columns(left, right, label, label_scale=parse_scale(label_scale)),
        floor,
        settings,
        slice_column=slice_column,
        churn_sample=churn_sample,
        thresholds=_numbers(thresholds),
        max_churn=max_churn,
        unlabelled=unlabelled,
    )
    with step_progress() as advance:
        outcome = run_refresh(request, progress=advance, dry_run=dry_run)
    show_refresh(outcome, champions(settings.home)["stack"], texts=show_texts, as_json=as_json)
    raise typer.Exit(0 if outcome.decision.passed else 13)


def _beside(labelled: str) -> Path:
    """Name the folder beside the labels; GLUE's plots go to the present folder."""
    path = Path(labelled).resolve() if Path(labelled).exists() else Path("glue-stsb")
    return path.with_name(f"{path.stem if path.is_file() else path.name}.evaluation")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--thresholds {text}: not numbers. Write them with commas, for example 2.5,4.") from None
