"""The command line. A verb parses, calls one function and prints; heavy imports wait until a verb needs them."""

import json
import os
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer

from stsb_batch import __version__
from stsb_batch.cli.machine import machine
from stsb_batch.cli.models import (
    AsJson,
    Engine,
    Label,
    LabelScale,
    Left,
    Lenient,
    MaxBadFiles,
    MaxBadRows,
    Model,
    Precision,
    Right,
    Strict,
    WarnBadRows,
    models,
    settings_with,
    strictness_of,
)
from stsb_batch.cli.output import unread_ends_with
from stsb_batch.cli.refresh import training
from stsb_batch.errors import DeviceLostError, StsbBatchError, UsageError, escape_control, storage_error

EXIT_CODES = """Exit codes: 0 done · 10 done, many rows without a score · 11 done, files left out
(with --lenient 0, with --strict 65) ·
13 gate refused, champion kept · 20 model integrity · 64 usage · 65 bad data, nothing committed · 66 nothing to read ·
69 device, hub or server missing · 70 bug · 73 cannot create output · 74 I/O error or disk full · 75 output in use or no
progress, try later · 77 permission · 78 configuration · 130/143 stopped by a signal: run the same command again to go on ·
141 nobody read the output."""

STARTED = time.time()
UNREAD = 128 + signal.SIGPIPE
OF_LIBRARIES = {1: UNREAD, 2: 64}  # rich and typer exit with 1 when nobody reads, typer with 2 on a wrong command line
MAX_RESTARTS = 2  # fresh processes after a lost device

app = typer.Typer(
    help="Score sentence pairs in Parquet with a cross-encoder you tune yourself.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(training)
app.add_typer(models, name="models")
app.add_typer(machine)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Take what comes before a verb."""


@app.command(epilog="Example: stsb-batch score in.parquet --left title_a --right title_b")
def score(
    location: Annotated[str, typer.Argument(metavar="IN", help="a Parquet file, a folder, or a quoted glob")],
    output: Annotated[str | None, typer.Option("--output", "-o", help="file or folder to write")] = None,
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    label_scale: LabelScale = None,
    keep: Annotated[list[str] | None, typer.Option("--keep", help="column to pass through (repeat; default: all)")] = None,
    score_column: Annotated[str, typer.Option("--score-column", help="name of the new column")] = "score",
    model: Model = "champion",
    engine: Engine = None,
    precision: Precision = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=16, help="tokens in one batch")] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", min=8, help="tokens of one pair; longer is cut")] = None,
    warn_bad_rows: WarnBadRows = 0.01,
    on_bad_row: Annotated[str, typer.Option(help="keep (null score), quarantine (to a side file) or fail")] = "keep",
    on_bad_file: Annotated[str, typer.Option(help="in a folder: quarantine (leave it out) or fail")] = "quarantine",
    max_bad_rows: MaxBadRows = 0.05,
    max_bad_files: MaxBadFiles = 0.01,
    lenient: Lenient = False,
    strict: Strict = False,
    parity: Annotated[bool, typer.Option(help="score a sample again in fp32 torch; stop when too far away")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace output of another plan")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan, score nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Score each pair of a Parquet file, folder or glob."""
    from stsb_batch.cli.output import row_progress, say
    from stsb_batch.cli.views import show_outcome, show_plan
    from stsb_batch.pairs.label_scale import parse_scale
    from stsb_batch.pairs.schema import Columns
    from stsb_batch.pairs.sink import pending_shards
    from stsb_batch.scoring.job import score_dataset
    from stsb_batch.scoring.plan import ScoreRequest, plan_score

    request = ScoreRequest(
        location=location,
        output=output,
        columns=Columns(left, right, label, tuple(keep) if keep else None, score_column, parse_scale(label_scale)),
        model=model,
        overwrite=overwrite,
        on_bad_row=on_bad_row,
        on_bad_file=on_bad_file,
        max_bad_rows=max_bad_rows,
        max_bad_files=max_bad_files,
        warn_bad_rows=warn_bad_rows,
        strictness=strictness_of(lenient, strict),
        parity=parity,
        settings=settings_with(engine=engine, precision=precision, max_tokens=max_tokens, max_length=max_length),
        asked=STARTED,
    )
    if dry_run:
        plan = plan_score(request, probe_rows=False)
        show_plan(plan, pending_shards(plan.target, plan.shards, overwrite=overwrite), as_json=as_json)
        return
    with row_progress() as show:
        outcome = score_dataset(request, on_progress=show)
    code = outcome.exit_code()
    with unread_ends_with(code):  # the scores are committed, whether anybody reads of it or not
        show_outcome(outcome, as_json=as_json)
        if line := outcome.explain():
            say(line)
    raise typer.Exit(code)


@app.command(epilog='Example: stsb-batch pair "The train leaves at nine." "Departure of the train: 9 a.m."')
def pair(left: str, right: str, model: Model = "champion", as_json: AsJson = False) -> None:
    """Score one pair, now."""
    from stsb_batch.inference.scorer import score_pair

    value, checkpoint = score_pair(left, right, model=model, settings=settings_with())
    typer.echo(
        json.dumps({"score": value, "model": checkpoint.name, "digest": checkpoint.digest}) if as_json else f"{value:.3f}"
    )


@app.command(epilog="Example: stsb-batch report night.scored/")
def report(
    location: Annotated[Path, typer.Argument(metavar="OUT", help="an output folder, a scored file, or a report")],
    as_json: AsJson = False,
) -> None:
    """Show the report of a scoring run."""
    from stsb_batch.cli.views import show_report

    show_report(location, as_json=as_json)


@app.command(epilog="Example: stsb-batch verify night.scored/")
def verify(
    location: Annotated[Path, typer.Argument(metavar="OUT", help="an output folder, a scored file, or STSB_BATCH_HOME")],
    sample: Annotated[int, typer.Option(min=0, help="rows to score again with the recorded model")] = 200,
    as_json: AsJson = False,
) -> None:
    """Check a run's output: manifest, hashes, page checksums, rows, and a sample scored again; or all that a home keeps."""
    from stsb_batch.cli.views import show_verification
    from stsb_batch.scoring.verify import verify_output
    from stsb_batch.scoring.verify_home import is_home, verify_home

    settings = settings_with()
    if is_home(location, settings):
        found = verify_home(location)
    else:
        found = verify_output(location, sample=sample, settings=settings)
    show_verification(found, as_json=as_json)
    raise typer.Exit(65 if found.problems else 0)


@app.command(epilog="Example: stsb-batch demo")
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="where the demo warehouse is laid out")] = Path("stsb-demo"),
) -> None:
    """Show the whole chain on a small starter set, offline: refresh, gate, promote, score, report."""
    from stsb_batch.demo.chain import run_demo

    run_demo(folder)


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
        code = OF_LIBRARIES.get(stop.code, stop.code)
        if code == UsageError.exit_code:
            _suggest_quotes(sys.argv[2:])
    except DeviceLostError as error:
        _start_again(error)
        code = _tell(error)
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
    with unread_ends_with(code or UNREAD):
        pass  # what is still in the buffer
    sys.exit(code)


def _suggest_quotes(arguments: list[str]) -> None:
    """Tell somebody whose shell has spelled out a pattern, so that a verb got many files, to quote it."""
    files = [argument for argument in arguments if not argument.startswith("-") and Path(argument).exists()]
    if len(files) > 1:
        pattern = Path(files[0]).parent / f"*{Path(files[0]).suffix}"
        print(
            f"A pattern has to be quoted, so that the shell does not spell it out: '{escape_control(pattern)}'",
            file=sys.stderr,
        )


def _start_again(error: DeviceLostError) -> None:
    """Replace this process by a fresh one, which goes on at the first shard that is not committed; at most twice."""
    restarts = int(os.environ.get("STSB_BATCH_RESTARTS", "0"))
    if restarts < MAX_RESTARTS:
        print(f"{error} Starting again ({restarts + 1} of {MAX_RESTARTS}).", file=sys.stderr, flush=True)
        os.environ["STSB_BATCH_RESTARTS"] = str(restarts + 1)
        os.execv(sys.executable, [sys.executable, "-P", "-m", "stsb_batch", *sys.argv[1:]])  # noqa: S606 - our own command


def _tell(error: StsbBatchError) -> int:
    print(error, file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    main()
