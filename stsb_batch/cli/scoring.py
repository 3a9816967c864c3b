"""The verbs about scores: make them, show them, check them."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from stsb_batch.cli.options import AsJson, pick, score_request, takes
from stsb_batch.errors import BadDataError
from stsb_batch.fields import fields_of
from stsb_batch.requests import ScoreRequest

STARTED = time.time()
scoring = typer.Typer()


@scoring.command(epilog="Example: stsb-batch score in.parquet --left title_a --right title_b")
@takes(lambda values: ScoreRequest(**values, requested_at=STARTED), fields_of(ScoreRequest))
def score(
    request: ScoreRequest,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and score nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Score the pairs of a Parquet file, folder or glob."""
    from stsb_batch.cli.output import echo, exits_with, row_progress
    from stsb_batch.cli.views import show_outcome, show_plan
    from stsb_batch.pairs.sink import pending_shards
    from stsb_batch.scoring.job import score_dataset
    from stsb_batch.scoring.plan import plan_score

    if dry_run:
        plan = plan_score(request, probe_rows=False)
        show_plan(plan, pending_shards(plan.target, plan.shards, overwrite=request.overwrite), as_json=as_json)
        return
    with row_progress() as show:
        outcome = score_dataset(request, on_progress=show)
    code = outcome.exit_code()
    with exits_with(code):  # the scores are committed, whether anybody reads the summary or not
        show_outcome(outcome, as_json=as_json)
        if line := outcome.explain():
            echo(line)
    raise typer.Exit(code)


@scoring.command(epilog='Example: stsb-batch pair "The train leaves at nine." "Departure of the train: 9 a.m."')
@takes(score_request, pick("model", "engine", "precision"))
def pair(
    request: ScoreRequest,
    left: Annotated[str, typer.Argument(help="the first text")],
    right: Annotated[str, typer.Argument(help="the second text")],
    as_json: AsJson = False,
) -> None:
    """Score one pair of texts."""
    from stsb_batch.inference.scorer import score_pair

    value, checkpoint = score_pair(left, right, model=request.model, settings=request.settings)
    typer.echo(
        json.dumps({"score": value, "model": checkpoint.name, "digest": checkpoint.digest}) if as_json else f"{value:.3f}"
    )


@scoring.command(epilog="Example: stsb-batch report night.scored/")
def report(
    location: Annotated[Path, typer.Argument(metavar="OUT", help="an output folder, a scored file, or a report")],
    as_json: AsJson = False,
) -> None:
    """Show the report of a scoring run."""
    from stsb_batch.cli.views import show_report

    show_report(location, as_json=as_json)


@scoring.command(epilog="Example: stsb-batch verify night.scored/")
def verify(
    location: Annotated[Path, typer.Argument(metavar="OUT", help="an output folder, a scored file, or STSB_BATCH_HOME")],
    sample: Annotated[int, typer.Option(min=0, help="rows to score again with the recorded model")] = 200,
    as_json: AsJson = False,
) -> None:
    """Check a run's output, or all that a home folder keeps.

    Compares files with the manifest, checks page checksums and rows, and scores a sample again. Ends with 65 if anything is
    wrong.
    """
    from stsb_batch.cli.views import show_verification
    from stsb_batch.scoring.verify import verify_output
    from stsb_batch.scoring.verify_home import is_home, verify_home
    from stsb_batch.settings import load_settings

    settings = load_settings()
    if is_home(location, settings):
        found = verify_home(location)
    else:
        found = verify_output(location, sample=sample, settings=settings)
    show_verification(found, as_json=as_json)
    raise typer.Exit(BadDataError.exit_code if found.problems else 0)
