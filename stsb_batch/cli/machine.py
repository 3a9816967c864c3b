"""The verbs about this machine: is it fit, how fast is it, and the demo."""

from pathlib import Path
from typing import Annotated

import typer

from stsb_batch.cli.options import AsJson, pick, score_request, takes
from stsb_batch.errors import ConfigError
from stsb_batch.requests import ScoreRequest

machine = typer.Typer()


@machine.command(epilog="Example: stsb-batch doctor")
def doctor(as_json: AsJson = False) -> None:
    """Check that this machine is fit to run.

    Packages, device, disk, models, Prefect's files and server, model hub. Ends with 78 if a check fails.
    """
    from flows.server import prefect_home, server_address
    from stsb_batch.cli.views import show_findings
    from stsb_batch.doctor import FAIL, examine
    from stsb_batch.settings import load_settings

    findings = list(examine(load_settings(), server_address(), prefect_home()))
    show_findings(findings, as_json=as_json)
    raise typer.Exit(ConfigError.exit_code if any(finding.state == FAIL for finding in findings) else 0)


@machine.command(epilog="Example: stsb-batch bench --input pairs.parquet --model champion")
@takes(score_request, pick("model", "engine", "precision"))
def bench(
    request: ScoreRequest,
    input_: Annotated[
        Path | None, typer.Option("--input", help="Parquet with sentence1, sentence2 (default: made-up sentences)")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=64, help="pairs in each round (default: 2000; on CUDA 100000)")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="rounds; figures are medians")] = 3,
    as_json: AsJson = False,
) -> None:
    """Compare the speed of this package with others here."""
    from stsb_batch.bench import run_bench
    from stsb_batch.cli.output import echo
    from stsb_batch.cli.views import show_bench

    found = run_bench(model=request.model, settings=request.settings, input_=input_, rows=rows, rounds=rounds, echo=echo)
    show_bench(found, as_json=as_json)


@machine.command(epilog="Example: stsb-batch demo")
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="folder for the demo's small warehouse")] = Path("stsb-demo"),
) -> None:
    """Show the whole chain on a small data set, offline."""
    from stsb_batch.demo.chain import run_demo

    run_demo(folder)
