"""The command line: its verbs together, and the edge where errors become a line on stderr and an exit code."""

import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from stsb_batch import __version__
from stsb_batch.cli.machine import machine
from stsb_batch.cli.models import models
from stsb_batch.cli.output import exits_with
from stsb_batch.cli.refresh import training
from stsb_batch.cli.schedule import schedule
from stsb_batch.cli.scoring import scoring
from stsb_batch.errors import (
    EXIT_CODES,
    UNREAD_OUTPUT,
    DeviceLostError,
    StsbBatchError,
    UsageError,
    escape_control,
    storage_error,
)

LIBRARY_CODES = {1: UNREAD_OUTPUT, 2: UsageError.exit_code}  # rich and typer: nobody reads; a wrong command line
MAX_RESTARTS = 2  # fresh processes after a lost device

app = typer.Typer(
    help="Score sentence pairs in Parquet with a cross-encoder you tune yourself.",
    epilog="Exit codes: " + " · ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verbs in (scoring, training, schedule, machine):
    app.add_typer(verbs)
app.add_typer(models, name="models")


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
    """Take the options before a verb."""


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _code_of(stop: SystemExit) -> int:
    return stop.code if isinstance(stop.code, int) else 1 if stop.code else 0


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    warnings.simplefilter("ignore")  # libraries warn their developers; users get errors and statuses
    try:
        app(prog_name="stsb-batch")
    except SystemExit as stop:
        code = LIBRARY_CODES.get(_code_of(stop), _code_of(stop))
        if code == UsageError.exit_code:
            _suggest_quotes(sys.argv[2:])
    except DeviceLostError as error:
        _restart(error)
        code = _report(error)
    except StsbBatchError as error:
        code = _report(error)
    except OSError as error:
        code = _report(storage_error(error, "working", error.filename or "input or output"))
    except Exception:  # noqa: BLE001 - the edge: an unforeseen error is a bug and is shown whole
        traceback.print_exc()
        print(f"This is a bug in stsb-batch {__version__}. Please report the lines above.", file=sys.stderr)
        code = StsbBatchError.exit_code
    if code in {128 + signal.SIGINT, 128 + signal.SIGTERM}:
        print("Stopped. Run the same command again to continue.", file=sys.stderr)
    with exits_with(code or UNREAD_OUTPUT):
        pass  # flushes what is still in the buffer
    sys.exit(code)


def _suggest_quotes(arguments: list[str]) -> None:
    """Suggest to quote a pattern that the shell has expanded, so that a verb got many files."""
    files = [argument for argument in arguments if not argument.startswith("-") and Path(argument).exists()]
    if len(files) > 1:
        pattern = Path(files[0]).parent / f"*{Path(files[0]).suffix}"
        print(
            f"Quote the pattern, so that the shell does not expand it: '{escape_control(pattern)}'",
            file=sys.stderr,
        )


def _restart(error: DeviceLostError) -> None:
    """Replace this process by a fresh one, at most twice; it continues at the first shard that is not committed."""
    restarts = int(os.environ.get("STSB_BATCH_RESTARTS", "0"))
    if restarts < MAX_RESTARTS:
        print(f"{error} Restarting ({restarts + 1} of {MAX_RESTARTS}).", file=sys.stderr, flush=True)
        os.environ["STSB_BATCH_RESTARTS"] = str(restarts + 1)
        os.execv(sys.executable, [sys.executable, "-P", "-m", "stsb_batch", *sys.argv[1:]])  # noqa: S606 - our own command


def _report(error: StsbBatchError) -> int:
    print(error, file=sys.stderr)
    return error.exit_code
