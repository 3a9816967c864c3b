"""The schedule on one machine: a Prefect server on loopback unless there is one, the deployments, and a worker."""

import asyncio
import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import httpx
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments import run_deployment
from prefect.server.schemas import schedules as server_schedules
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import ValidationError

from flows.deployments import (
    POOL,
    apply_automations,
    apply_deployments,
    read_deployments,
    read_nightly,
    scheduled_starts,
)
from flows.server import prefect_home, server_address
from stsb_batch.durable import exclusive_lock
from stsb_batch.errors import ConfigError, UnavailableError, escape_control
from stsb_batch.refresh.label_files import GLUE
from stsb_batch.requests import NightlyRequest, nightly_fields, options_of
from stsb_batch.schedule.run_dates import check_schedule, missing_dates, run_date_of, zone
from stsb_batch.settings import check_prefect_home, load_settings

START_SECONDS, STOP_SECONDS = 180.0, 30.0
SETTLE_SECONDS = 150.0  # by then a run that died with the machine is Crashed and blocks no other
LOOPBACK = ("127.0.0.1", "localhost", "::1")
RUNS_AT_ONCE = 3  # a night, a refresh, and room for a promotion or a rollback
# Nothing leaves this machine: no analytics, and the UI that does not ask an analytics host from the browser.
SERVER_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # runs older than 90 days go
    "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P30D",  # else it forgets runs that died with it a minute ago
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Schedule:
    """What is to run every night, and when."""

    request: NightlyRequest
    cron: str = "0 2 * * *"

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the nightly deployment that differ from their defaults.

        Paths are absolute, since a worker runs elsewhere.
        """
        defaults = {name: spec.default for name, spec in nightly_fields().items()}
        options = {name: value for name, value in options_of(self.request).items() if value != defaults[name]}
        paths = {name: options.get(name) for name in ("location", "output", "labels", "unlabelled", "churn_sample")}
        if options.get("base_model") and Path(options["base_model"]).exists():
            paths["base_model"] = options["base_model"]
        found = {name: str(Path(path).absolute()) for name, path in paths.items() if path and path != GLUE}
        return options | found

    def check(self) -> dt.datetime:
        """Return the next start, local time; raises `ConfigError` or `UsageError` for what is wrong with the schedule."""
        check_schedule(self.request)
        return self.starts(1, dt.datetime.now(dt.UTC))[0].astimezone(zone(self.request.timezone))

    def starts(self, count: int, since: dt.datetime) -> list[dt.datetime]:
        """Return the scheduled starts from a moment on, as the server will schedule them."""
        try:
            schedule = server_schedules.CronSchedule(cron=self.cron, timezone=self.request.timezone)
        except ValidationError:
            raise ConfigError(
                f"{escape_control(self.cron)}: not a cron schedule. Write minute, hour, day, month, weekday: '0 2 * * *'."
            ) from None
        return list(asyncio.run(schedule.get_dates(count, start=since)))


def serve(schedule: Schedule, *, webhook: str | None = None, port: int = 4200, reset: bool = False) -> Iterator[str]:
    """Run the schedule on this machine until the caller stops; yields lines for people as things start.

    Uses the Prefect server that is configured, or the one that answers on the port, or starts one. A second call for the
    same home is refused with `BusyError`. What was started here ends here.
    """
    schedule.check()  # before anything starts
    home = load_settings().home
    check_prefect_home(prefect_home())
    with contextlib.ExitStack() as stack:
        stack.enter_context(exclusive_lock(home / "serve.lock", f"the schedule of {home}"))
        api = server_address()[0] or f"http://127.0.0.1:{port}/api"
        if not answers(api) and urlsplit(api).hostname in LOOPBACK:
            yield f"starting a Prefect server (log {home / 'server.log'})"
            if earlier := earlier_home():
                yield f"history  was kept in {earlier} before; set PREFECT_HOME={earlier} to continue it"
            stack.enter_context(local_server(urlsplit(api).port or port, home / "server.log"))
        stack.enter_context(temporary_settings({PREFECT_API_URL: api}))
        yield from register(schedule, webhook=webhook, reset=reset)
        command = ["worker", "start", "--pool", POOL, "--limit", str(RUNS_AT_ONCE), "--install-policy", "never"]
        # runs start in folders of their own, from which a relative home would be another one
        worker = stack.enter_context(child(command, {"PREFECT_API_URL": api, "STSB_BATCH_HOME": str(home)}))
        yield f"UI       {api.removesuffix('/api')}"
        yield "Ctrl-C stops"
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(SETTLE_SECONDS)
        if worker.poll() is None and (night := start_backfill()):
            yield f"backfill night {night} has not been scored, it starts now"
        worker.wait()
        raise UnavailableError(
            f"The worker ended by itself (exit code {worker.returncode}). Start `stsb-batch serve` again."
        )


def register(schedule: Schedule, *, webhook: str | None = None, reset: bool = False) -> Iterator[str]:
    """Put deployments and automations on the server; workers of the pool, here or elsewhere, take the runs.

    What people changed on the server is kept, and named, unless a reset is asked for.
    """
    schedule.check()
    api = server_address()[0]
    if not api or not answers(api):
        raise UnavailableError(f"{api or 'No server is configured'}: no answer. Name a running server in PREFECT_API_URL.")
    deployments = read_deployments(schedule.parameters(), cron=schedule.cron, timezone=schedule.request.timezone)
    kept = apply_deployments(deployments, reset=reset)
    yield f"runs     {', '.join(deployment.name for deployment in deployments)} (work pool {POOL})"
    names, kept_automations = apply_automations(webhook, reset=reset)
    alerts = f"{len(names)} automations" if len(names) > 1 else "none; name a webhook with --webhook"
    yield f"alerts   {alerts}"
    if kept := [*kept, *kept_automations]:
        yield "changed on the server and kept (--reset overwrites it with what this command says):"
        yield from (f"         {line}" for line in kept)
    yield f"nightly  {_next_start()}"


def _next_start() -> str:
    """Say when the nightly run starts next, by what holds on the server."""
    nightly = read_nightly()
    starts = scheduled_starts(nightly, 1, dt.datetime.now(dt.UTC))
    if not starts:
        return "paused on the server, no night starts by itself"
    schedules = [one.schedule for one in nightly.schedules if one.active and isinstance(one.schedule, CronSchedule)]
    return ", ".join([f"{one.cron} {one.timezone}" for one in schedules] + [f"next {starts[0]:%Y-%m-%d %H:%M}"])


def start_backfill() -> str | None:
    """Start the newest run date if its time passed while nothing ran here; returns it, None when there is nothing to do.

    Only where run dates have been scored before: a first start scores nothing by itself. Schedule and parameters are those
    on the server; a schedule that is paused there has missed nothing.
    """
    now, nightly = dt.datetime.now(dt.UTC), read_nightly()
    given = nightly.parameters
    passed = [start for start in scheduled_starts(nightly, 10, now - dt.timedelta(days=8)) if start <= now]
    if not passed:
        return None
    night = run_date_of(passed[-1], given.get("timezone", "UTC"))
    if night not in missing_dates(given["location"], given["output"], night):
        return None
    run_deployment("nightly/nightly", scheduled_time=passed[-1], timeout=0, as_subflow=False)
    return night


def earlier_home() -> Path | None:
    """Return the folder where Prefect keeps its history by default, if there is one and none yet where we keep it."""
    usual = Path(os.path.expanduser("~/.prefect"))  # noqa: PTH111 - no error without a home folder
    if (prefect_home() / "prefect.db").exists() or not os.access(usual / "prefect.db", os.R_OK):
        return None
    return usual


def answers(api: str) -> bool:
    """Say whether a Prefect server answers at an address."""
    try:
        return httpx.get(f"{api}/health", headers=server_address()[1], timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def local_server(port: int, log: Path) -> Iterator[None]:
    """Run a Prefect server on loopback with its embedded SQLite database, and wait until it answers."""
    address = f"http://127.0.0.1:{port}"
    command = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
    places = {"PREFECT_UI_URL": address, "PREFECT_SERVER_UI_API_URL": f"{address}/api"}  # what pages and alerts link to
    places["PREFECT_SERVER_UI_STATIC_DIRECTORY"] = str(prefect_home() / "ui")  # the package may be another user's
    with log.open("w") as output, child(command, SERVER_SETTINGS | places, output) as process:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{address}/api"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError(f"The Prefect server on port {port} did not start. Its log is {log}.")
            time.sleep(0.3)
        yield


@contextlib.contextmanager
def child(command: list[str], environment: dict[str, str], output: TextIO | None = None) -> Iterator[subprocess.Popen]:
    """Run a Prefect command beside us, in a session of its own so that Ctrl-C reaches it only through us; end it at last.

    Its whole group gets SIGTERM, then, if needed, SIGKILL.
    """
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "prefect", *command],
        env=os.environ | environment,
        stdout=output,
        stderr=output,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            if _has_ended(process, STOP_SECONDS):
                break


def _has_ended(process: subprocess.Popen, seconds: float) -> bool:
    """Wait until a process and all of its group are gone, so many seconds at most."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        process.poll()
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
