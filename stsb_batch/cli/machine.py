"""The verbs about this machine: one night, every night, is it fit, and how fast is it."""

from pathlib import Path
from typing import Annotated

import typer

from stsb_batch.cli.models import (
    Approval,
    AsJson,
    BaseModel,
    DoneBy,
    Engine,
    Label,
    LabelScale,
    Left,
    Lenient,
    MaxBadFiles,
    MaxBadRows,
    Model,
    NightLabels,
    Pairs,
    Precision,
    Recipe,
    RefreshDays,
    Right,
    Scores,
    Strict,
    Timezone,
    WarnBadRows,
    settings_with,
    strictness_of,
)
from stsb_batch.errors import ConfigError

machine = typer.Typer()


@machine.command(epilog="Example: stsb-batch nightly warehouse/pairs -o warehouse/scores --labels warehouse/labels.parquet")
def nightly(
    location: Pairs,
    output: Scores,
    night: Annotated[str | None, typer.Option("--night", help="the date, YYYY-MM-DD (default: today)")] = None,
    timezone: Timezone = "UTC",
    labels: NightLabels = None,
    base_model: BaseModel = "distilbert-base-uncased",
    recipe: Recipe = "reference",
    refresh_days: RefreshDays = 7,
    approval: Approval = "auto",
    done_by: DoneBy = None,
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    label_scale: LabelScale = None,
    max_bad_rows: MaxBadRows = 0.05,
    max_bad_files: MaxBadFiles = 0.01,
    warn_bad_rows: WarnBadRows = 0.01,
    lenient: Lenient = False,
    strict: Strict = False,
) -> None:
    """Run one night now as a Prefect flow: refresh when due, score, report."""
    given = dict(locals())
    given["strictness"] = strictness_of(given.pop("lenient"), given.pop("strict"))
    from stsb_batch.pairs.label_scale import parse_scale
    from stsb_batch.schedule.run_dates import check_choices

    parse_scale(label_scale)  # before a server is started for a wrong one
    check_choices(output, night, timezone, done_by)
    from flows.nightly import run_night_here

    raise typer.Exit(run_night_here(**given))


@machine.command(epilog="Example: stsb-batch serve 'pairs/night={night}' -o 'scores/night={night}' --cron '0 2 * * *'")
def serve(
    location: Pairs,
    output: Scores,
    cron: Annotated[str, typer.Option("--cron", help="when: minute, hour, day, month, weekday")] = "0 2 * * *",
    timezone: Timezone = "UTC",
    labels: NightLabels = None,
    base_model: BaseModel = "distilbert-base-uncased",
    recipe: Recipe = "reference",
    refresh_days: RefreshDays = 7,
    approval: Approval = "auto",
    done_by: DoneBy = None,
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    label_scale: LabelScale = None,
    max_bad_rows: MaxBadRows = 0.05,
    max_bad_files: MaxBadFiles = 0.01,
    warn_bad_rows: WarnBadRows = 0.01,
    lenient: Lenient = False,
    strict: Strict = False,
    webhook: Annotated[str | None, typer.Option("--webhook", help="address that gets the alerts as JSON")] = None,
    port: Annotated[int, typer.Option("--port", help="of the server on loopback, unless one is configured")] = 4200,
    register_only: Annotated[
        bool, typer.Option("--register-only", help="for workers elsewhere: tell the configured server, and end")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="take changes made on the server back to what this command says")
    ] = False,
) -> None:
    """Run it every night: Prefect server with its UI, schedule, alerts, worker. Stop with Ctrl-C."""
    from flows import serve as room
    from stsb_batch.cli.output import say
    from stsb_batch.pairs.label_scale import parse_scale

    nightly = {"labels": labels, "base_model": base_model, "recipe": recipe, "refresh_days": refresh_days}
    nightly |= {"approval": approval, "done_by": done_by, "left": left, "right": right, "label": label}
    parse_scale(label_scale)
    nightly |= {"label_scale": label_scale}
    nightly |= {"max_bad_rows": max_bad_rows, "max_bad_files": max_bad_files}
    nightly |= {"warn_bad_rows": warn_bad_rows, "strictness": strictness_of(lenient, strict)}
    schedule = room.Schedule(location, output, cron, timezone, nightly)
    try:
        lines = (
            room.register(schedule, webhook=webhook, reset=reset)
            if register_only
            else room.serve(schedule, webhook=webhook, port=port, reset=reset)
        )
        for line in lines:
            say(line)
    except SystemExit:  # a signal: this is how a schedule ends well
        say("Stopped.")


@machine.command(epilog="Example: stsb-batch doctor")
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: packages, device, disk, models, Prefect's files and server, hub. Exit code 78 when one fails."""
    from flows.server import prefect_home, server_address
    from stsb_batch.cli.views import show_findings
    from stsb_batch.doctor import FAIL, examine

    findings = list(examine(settings_with(), server_address(), prefect_home()))
    show_findings(findings, as_json=as_json)
    raise typer.Exit(ConfigError.exit_code if any(finding.state == FAIL for finding in findings) else 0)


@machine.command(epilog="Example: stsb-batch bench --input pairs.parquet --model champion")
def bench(
    input_: Annotated[
        Path | None, typer.Option("--input", help="Parquet with sentence1, sentence2 (default: made up)")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=64, help="pairs in each round (default: 2,000; on CUDA 100,000)")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="rounds; figures are medians")] = 3,
    model: Model = "champion",
    engine: Engine = None,
    precision: Precision = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: ours against the usual ways, same texts, same model, same run."""
    from stsb_batch.bench import run_bench
    from stsb_batch.cli.output import say
    from stsb_batch.cli.views import show_bench

    settings = settings_with(engine=engine, precision=precision)
    found = run_bench(model=model, settings=settings, input_=input_, rows=rows, rounds=rounds, say=say)
    show_bench(found, as_json=as_json)
