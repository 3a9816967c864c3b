"""A small team's Prefect: PostgreSQL, server, work pool, worker, a receiver of alerts; for the long tests and by hand."""

import contextlib
import http.server
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
from prefect.client.orchestration import get_client

from tests.builders import make_pairs

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def read(kind: str, **wanted) -> list:
    """Read all flow runs, task runs or artifacts from the server of this process."""
    with get_client(sync_client=True) as client:
        return getattr(client, f"read_{kind}")(**wanted)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until(check: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Return the first true value of a check."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if value := check():
                return value
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL of its own in a temporary folder and give its address for SQLAlchemy; never as root."""
    programs, port, user = POSTGRES[-1], free_port(), {}
    with tempfile.TemporaryDirectory(prefix="stsb-batch-postgres-") as folder:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

        def run(name: str, *arguments: str) -> None:
            subprocess.run([programs / name, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)

        data = f"{folder}/data"
        run("initdb", "-D", data, "-U", "prefect", "-A", "trust", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        run("pg_ctl", "-D", data, "-l", f"{folder}/log", "-w", "-o", options, "start")
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")


@contextlib.contextmanager
def program(command: list, *, log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Run a program in a session of its own, with its output in a file, and end all of it at last."""
    with log.open("a") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | environment, start_new_session=True
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def receiver() -> Iterator[tuple[str, list[dict]]]:
    """Run an HTTP receiver on loopback; gives its address and the list that alerts arrive in."""
    alerts: list[dict] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            alerts.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/alerts", alerts
        server.shutdown()
        thread.join()


class Api:
    """What the tests ask a Prefect server."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, **body: Any) -> Any:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict | None) -> Any:
        """Prefect answers 503 to what may be asked again, its database being busy for one; its own client asks again too."""
        for pause in (1, 2, 4, 0):
            answer = httpx.request(method, f"{self.address}{path}", json=body, timeout=30)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(pause)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run of a deployment now and return its id."""
        found = self.get(f"/deployments/name/{deployment}/{deployment}")["id"]
        return self.post(f"/deployments/{found}/create_flow_run", parameters=parameters, state={"type": "SCHEDULED"})["id"]

    def run(self, run: str) -> dict:
        return self.get(f"/flow_runs/{run}")

    def wait(self, run: str, *states: str, seconds: float = 120) -> dict:
        """Wait until a run is in one of the states by name; fails with what it is in instead."""
        try:
            return wait_until(
                lambda: found if (found := self.run(run))["state_name"] in states else None,
                seconds=seconds,
                what=str(states),
            )
        except AssertionError as error:
            state = self.run(run)["state"]
            raise AssertionError(f"{error}; it is {state['name']}: {state['message']}") from None


def processes_of(run: str) -> list[int]:
    """Return the ids of the processes that hold a flow run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if run.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]


def stsb_batch(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "stsb_batch", *map(str, arguments)]


def write_many(path: Path, rows: int) -> None:
    """Write pairs that are all different, enough of them to keep a run busy."""
    pairs = pl.concat([make_pairs(2_000)] * (rows // 2_000)).with_row_index("n")
    number = pl.col("n").cast(pl.String)
    texts = {side: pl.format("{} {}", side, number) for side in ("sentence1", "sentence2")}
    pairs.with_columns(**texts).drop("n").write_parquet(path, mkdir=True, row_group_size=20_000)
