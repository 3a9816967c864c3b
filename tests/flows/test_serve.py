"""`stsb-batch serve` as a user runs it: a real server, a real schedule, a worker."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.builders import make_pairs
from tests.flows.team import Api, free_port, processes_of, program, stsb_batch, wait_until

NIGHT = "2026-01-02"


@pytest.fixture
def served(plain_engine, champion, tmp_path: Path) -> Iterator[tuple[Api, subprocess.Popen, list, dict]]:
    """Run `serve` on a free port with a run due every minute; gives its server, process, command and environment."""
    make_pairs(50).write_parquet(tmp_path / f"in/{NIGHT}/part.parquet", mkdir=True)
    port = free_port()
    command = stsb_batch("serve", tmp_path / "in/{night}", "-o", tmp_path / "out", "--cron", "* * * * *", "--port", port)
    own = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with program(command, log=tmp_path / "serve.log", environment=own) as process:
        wait_until(
            lambda: process.poll() is not None or "Ctrl-C" in (tmp_path / "serve.log").read_text(), seconds=180, what="serve"
        )
        assert process.poll() is None, (tmp_path / "serve.log").read_text()
        yield Api(f"http://127.0.0.1:{port}/api"), process, command, own


def test_serve_schedules_runs_refuses_a_second_and_stops_cleanly(served, tmp_path: Path):
    """Scheduled runs appear, a night started by hand completes with its artifacts, a second serve ends with 75, and
    SIGTERM ends server and worker with exit code 0."""
    api, process, command, own = served
    wanted = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    assert wait_until(lambda: api.post("/flow_runs/filter", flow_runs=wanted), seconds=90, what="the schedule makes a run")
    second = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
    assert second.returncode == 75
    assert "in use by process" in second.stderr
    api.post(f"/deployments/{api.get('/deployments/name/nightly/nightly')['id']}/pause_deployment")
    busy = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}  # a scheduled night holds the only place
    wait_until(lambda: not api.post("/flow_runs/filter", flow_runs=busy), seconds=90, what="the scheduled night ends")
    run = api.start("nightly", night=NIGHT)
    api.wait(run, "Completed", seconds=120)
    assert (tmp_path / f"out/{NIGHT}/_SUCCESS").exists()
    assert {"score-report", "score-shards"} <= {artifact["key"] for artifact in api.post("/artifacts/filter")}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        api.get("/health")
    assert processes_of(own["PREFECT_HOME"]) == []


@pytest.mark.parametrize("more", [[], ["--register-only"]])
def test_a_server_elsewhere_that_does_not_answer_is_named(more: list[str], tmp_path: Path):
    """A server that is configured and not there ends with 69 and its address; none is started in its place."""
    own = {"PREFECT_API_URL": "http://127.0.0.2:9/api", "PREFECT_HOME": str(tmp_path / "prefect")}
    command = stsb_batch("serve", tmp_path / "in/{night}", "-o", tmp_path / "out", *more)
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert "http://127.0.0.2:9/api: no answer. Name a running server in PREFECT_API_URL." in done.stderr
