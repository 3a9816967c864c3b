"""The verbs about nights: one now, or every night."""

from typing import Annotated

import typer

from stsb_batch.cli.options import takes
from stsb_batch.requests import NightlyRequest, nightly_fields, nightly_request

schedule = typer.Typer()
EVERY_NIGHT = {name: spec for name, spec in nightly_fields().items() if name != "night"}


@schedule.command(epilog="Example: stsb-batch nightly warehouse/pairs -o warehouse/scores --labels warehouse/labels.parquet")
@takes(nightly_request, nightly_fields())
def nightly(request: NightlyRequest) -> None:
    """Run one night now: refresh when due, score, report."""
    from stsb_batch.schedule.run_dates import check_schedule

    check_schedule(request)  # before a server is started for a request that is wrong
    from flows.nightly import run_night_here

    raise typer.Exit(run_night_here(request))


@schedule.command(epilog="Example: stsb-batch serve 'pairs/night={night}' -o 'scores/night={night}' --cron '0 2 * * *'")
@takes(nightly_request, EVERY_NIGHT)
def serve(
    request: NightlyRequest,
    cron: Annotated[str, typer.Option("--cron", help="when: minute, hour, day, month, weekday")] = "0 2 * * *",
    webhook: Annotated[str | None, typer.Option("--webhook", help="address that receives alerts as JSON")] = None,
    port: Annotated[int, typer.Option("--port", help="loopback port of the server, unless one is configured")] = 4200,
    register_only: Annotated[
        bool,
        typer.Option("--register-only", help="only update the deployments on the configured server; start nothing here"),
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="overwrite changes made on the server with what this command says")
    ] = False,
) -> None:
    """Run every night: Prefect server, schedule, alerts, worker.

    Runs until Ctrl-C. Uses the Prefect server that is configured, or starts one on loopback.
    """
    from flows import serve as server
    from stsb_batch.cli.output import echo

    planned = server.Schedule(request, cron)
    try:
        lines = (
            server.register(planned, webhook=webhook, reset=reset)
            if register_only
            else server.serve(planned, webhook=webhook, port=port, reset=reset)
        )
        for line in lines:
            echo(line)
    except SystemExit:  # a signal is the usual way to stop a schedule
        echo("Stopped.")
