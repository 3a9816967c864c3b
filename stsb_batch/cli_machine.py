"""The verbs about this machine: is it fit, and how fast is it."""

from pathlib import Path
from typing import Annotated

import typer

from stsb_batch.cli_models import AsJson, Engine, Model, Precision, settings_with
from stsb_batch.errors import ConfigError

machine = typer.Typer()


@machine.command(epilog="Example: stsb-batch doctor")
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: packages, device, disk, models, Prefect server, hub. Exit code 78 when something fails."""
    from flows.server import server_address
    from stsb_batch.doctor import FAIL, examine
    from stsb_batch.views import show_findings

    findings = list(examine(settings_with(), server_address()))
    show_findings(findings, as_json=as_json)
    raise typer.Exit(ConfigError.exit_code if any(finding.state == FAIL for finding in findings) else 0)


@machine.command(epilog="Example: stsb-batch bench --input pairs.parquet --model champion")
def bench(
    input_: Annotated[
        Path | None, typer.Option("--input", help="Parquet with sentence1, sentence2 (default: made up)")
    ] = None,
    rows: Annotated[int, typer.Option(min=64, help="pairs to score in each round")] = 2_000,
    rounds: Annotated[int, typer.Option(min=1, help="rounds; figures are medians")] = 3,
    model: Model = "champion",
    engine: Engine = None,
    precision: Precision = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: ours against the usual ways, same texts, same model, same run."""
    from stsb_batch.bench import run_bench
    from stsb_batch.terminal import say
    from stsb_batch.views import show_bench

    settings = settings_with(engine=engine, precision=precision)
    found = run_bench(model=model, settings=settings, input_=input_, rows=rows, rounds=rounds, say=say)
    show_bench(found, as_json=as_json)
