"""The command line. A verb parses, calls one function and prints; heavy imports wait until a verb needs them."""

import json
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer

from stsb_batch import __version__
from stsb_batch.errors import StsbBatchError, storage_error

EXIT_CODES = """Exit codes: 0 done · 10 done, many rows without a score · 13 gate refused, champion kept · 20 model integrity
· 64 usage · 65 bad data, nothing committed · 66 nothing to read · 69 device, hub or server missing · 70 bug ·
73 cannot create output · 74 I/O error or disk full · 75 output in use, try later · 77 permission · 78 configuration ·
130/143 stopped by a signal: run the same command again to go on."""

app = typer.Typer(
    help="Score sentence pairs in Parquet with a cross-encoder you tune yourself.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models = typer.Typer(help="The registry: versions, champion, rollback.", no_args_is_help=True)
app.add_typer(models, name="models")

Left = Annotated[str, typer.Option("--left", help="column with the first text")]
Right = Annotated[str, typer.Option("--right", help="column with the second text")]
Label = Annotated[str | None, typer.Option("--label", help="column with the label, 0 to 5")]
Model = Annotated[str, typer.Option("--model", help="champion, name@number, a folder, or a hub id@revision")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]
Engine = Annotated[str | None, typer.Option("--engine", help="auto, torch or openvino")]
Precision = Annotated[str | None, typer.Option("--precision", help="auto, fp32, bf16 or fp16")]


def settings_with(**changes):
    """Load the settings and put the options that were given on top."""
    from stsb_batch.settings import load_settings

    return load_settings().model_copy(update={name: value for name, value in changes.items() if value is not None})


@app.command(epilog="Example: stsb-batch score in.parquet --left title_a --right title_b")
def score(
    location: Annotated[str, typer.Argument(metavar="IN", help="a Parquet file, a folder, or a quoted glob")],
    output: Annotated[str | None, typer.Option("--output", "-o", help="file or folder to write")] = None,
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    keep: Annotated[list[str] | None, typer.Option("--keep", help="column to pass through (repeat; default: all)")] = None,
    score_column: Annotated[str, typer.Option("--score-column", help="name of the new column")] = "score",
    model: Model = "champion",
    engine: Engine = None,
    precision: Precision = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=16, help="padded tokens in one batch")] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", min=8, help="tokens of one pair; longer is cut")] = None,
    warn_bad_rows: Annotated[
        float, typer.Option(help="share of rows without a score above which the exit code is 10")
    ] = 0.01,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace output of another plan")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan, score nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Score each pair of a Parquet file, folder or glob."""
    from stsb_batch.jobs.plan import ScoreRequest, plan_score
    from stsb_batch.jobs.score import score_dataset
    from stsb_batch.pairs.schema import Columns
    from stsb_batch.terminal import row_progress
    from stsb_batch.views import show_outcome, show_plan

    request = ScoreRequest(
        location=location,
        output=output,
        columns=Columns(left, right, label, tuple(keep) if keep else None, score_column),
        model=model,
        overwrite=overwrite,
        settings=settings_with(engine=engine, precision=precision, max_tokens=max_tokens, max_length=max_length),
    )
    if dry_run:
        show_plan(plan_score(request), as_json=as_json)
        return
    with row_progress() as (begin, advance):
        outcome = score_dataset(request, on_plan=lambda _, rows: begin(rows), progress=advance)
    show_outcome(outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code(warn_bad_rows))


@app.command(epilog='Example: stsb-batch pair "The train leaves at nine." "Departure of the train: 9 a.m."')
def pair(left: str, right: str, model: Model = "champion", as_json: AsJson = False) -> None:
    """Score one pair, now."""
    from stsb_batch.jobs.scorer import score_pair

    value, checkpoint = score_pair(left, right, model=model, settings=settings_with())
    typer.echo(
        json.dumps({"score": value, "model": checkpoint.name, "digest": checkpoint.digest}) if as_json else f"{value:.3f}"
    )


@app.command(epilog="Example: stsb-batch evaluate labelled.parquet --model sts@2")
def evaluate(
    labelled: Annotated[str, typer.Argument(help="labelled Parquet, a folder with splits, or glue/stsb")],
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    model: Model = "champion",
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled pairs: MSE, RMSE, MAE, Pearson, Spearman."""
    from stsb_batch.jobs.evaluate import evaluate_labels
    from stsb_batch.pairs.schema import Columns
    from stsb_batch.views import show_metrics

    report = evaluate_labels(labelled, model=model, columns=Columns(left, right, label), settings=settings_with())
    show_metrics(report, as_json=as_json)


@app.command(epilog="Example: stsb-batch refresh --labels labelled.parquet --base-model minilm")
def refresh(
    labels: Annotated[
        str, typer.Option("--labels", help="labelled Parquet, a folder with splits, or glue/stsb")
    ] = "glue/stsb",
    base_model: Annotated[
        str, typer.Option("--base-model", help="hub id, folder, or minilm (offline)")
    ] = "distilbert-base-uncased",
    recipe: Annotated[str, typer.Option("--recipe", help="reference, or silver for few labels")] = "reference",
    name: Annotated[str, typer.Option("--name", help="name of the model in the registry")] = "sts",
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    floor: Annotated[float, typer.Option("--floor", help="test Pearson below which nothing is promoted")] = 0.6,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="train, measure and register, but promote nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a model, hold it against the champion, and promote it when it passes."""
    from stsb_batch.jobs.refresh import RefreshRequest
    from stsb_batch.jobs.refresh import refresh as run_refresh
    from stsb_batch.pairs.schema import Columns
    from stsb_batch.terminal import step_progress
    from stsb_batch.views import show_refresh

    request = RefreshRequest(labels, base_model, recipe, name, Columns(left, right, label), floor, settings_with())
    with step_progress() as advance:
        outcome = run_refresh(request, progress=advance, dry_run=dry_run)
    show_refresh(outcome, as_json=as_json)
    raise typer.Exit(0 if outcome.decision.passed else 13)


@app.command(epilog="Example: stsb-batch report night.scored/")
def report(
    location: Annotated[Path, typer.Argument(metavar="OUT", help="an output folder, a scored file, or a report")],
    as_json: AsJson = False,
) -> None:
    """Show the report of a scoring run."""
    from stsb_batch.views import show_report

    show_report(location, as_json=as_json)


@app.command(epilog="Example: stsb-batch nightly warehouse/pairs -o warehouse/scores --labels warehouse/labels.parquet")
def nightly(
    location: Annotated[str, typer.Argument(metavar="IN", help="Parquet to score; {night} in it becomes the date")],
    output: Annotated[str, typer.Option("--output", "-o", help="folder that gets a folder for each night")],
    night: Annotated[str | None, typer.Option("--night", help="the date, YYYY-MM-DD (default: today)")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="refresh first when these labels are new")] = None,
    base_model: Annotated[str, typer.Option("--base-model", help="base model of a refresh")] = "distilbert-base-uncased",
    recipe: Annotated[str, typer.Option("--recipe", help="recipe of a refresh")] = "reference",
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
) -> None:
    """Run one night now as a Prefect flow: refresh when due, score, report."""
    from flows.nightly import run_night

    run_night(
        location=location,
        output=output,
        night=night,
        labels=labels,
        base_model=base_model,
        recipe=recipe,
        left=left,
        right=right,
        label=label,
    )


@app.command(epilog="Example: stsb-batch demo")
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="where the demo warehouse is laid out")] = Path("stsb-demo"),
) -> None:
    """Show the whole chain on a small starter set, offline: refresh, gate, promote, score, report."""
    from stsb_batch.demo.chain import run_demo

    run_demo(folder)


@models.command("list", epilog="Example: stsb-batch models list")
def models_list(as_json: AsJson = False) -> None:
    """List all versions; the champion is marked."""
    from stsb_batch.models.registry import champions, list_versions
    from stsb_batch.views import show_versions

    home = settings_with().home
    show_versions(list_versions(home), champions(home)["stack"], as_json=as_json)


@models.command("show", epilog="Example: stsb-batch models show champion")
def models_show(
    reference: Annotated[str, typer.Argument(help="champion or name@number")] = "champion", as_json: AsJson = False
) -> None:
    """Show a version's card, metrics and history."""
    from stsb_batch.models.registry import champions, find_version, verified
    from stsb_batch.views import show_version

    home = settings_with().home
    version = find_version(home, reference)
    verified(version)
    show_version(version, champions(home)["log"], as_json=as_json)


@models.command("promote", epilog="Example: stsb-batch models promote sts@3 --reason 'new labels'")
def models_promote(
    reference: str, reason: Annotated[str, typer.Option("--reason", help="kept in the log")] = "by hand"
) -> None:
    """Make a version that passed its gate the champion."""
    from stsb_batch.models.registry import find_version, promote

    home = settings_with().home
    version = find_version(home, reference)
    promote(home, version, reason)
    typer.echo(f"champion is {version.reference}")


@models.command("rollback", epilog="Example: stsb-batch models rollback")
def models_rollback() -> None:
    """Make the champion before the present one champion again."""
    from stsb_batch.models.registry import rollback

    typer.echo(f"champion is {rollback(settings_with().home).reference}")


def _stop(number: int, _frame) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line; the one place where errors become a line on stderr and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    warnings.simplefilter("ignore")  # libraries warn their developers; ours are told by errors and statuses
    try:
        app(prog_name="stsb-batch")
    except SystemExit as stop:
        code = 64 if stop.code == 2 else stop.code  # typer exits with 2 on a wrong command line
    except StsbBatchError as error:
        code = _tell(error)
    except OSError as error:
        code = _tell(storage_error(error, "working", error.filename or "input or output"))
    except Exception:  # noqa: BLE001 - the edge: whatever was not foreseen is a bug and is shown whole
        traceback.print_exc()
        print(f"This is a bug in stsb-batch {__version__}. Please report the lines above.", file=sys.stderr)
        code = StsbBatchError.exit_code
    if code in {128 + signal.SIGINT, 128 + signal.SIGTERM}:
        print("Stopped. Run the same command again to go on where it was.", file=sys.stderr)
    sys.exit(code)


def _tell(error: StsbBatchError) -> int:
    print(error, file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    main()
