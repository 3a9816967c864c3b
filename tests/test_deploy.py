"""What stands in deploy/: it parses, names what exists, pins what is pinned, and lets nobody in by default."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
import typer.main
import yaml
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import Settings as PrefectSettings
from prefect.utilities.templating import find_placeholders

from stsb_batch.cli.main import app
from stsb_batch.settings import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
TEXTS = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".png")
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (DEPLOY / "constraints.txt").read_text(), re.MULTILINE))
NOT_SETTINGS = "PREFECT_INTEGRATIONS_KUBERNETES_"  # of the integration that runs in the chart's image
LOOPBACK = ["127.0.0.1", "localhost", "::1"]


def values(name: str) -> dict:
    return yaml.safe_load((DEPLOY / name).read_text())


def prefect_names(model: type, prefix: str = "PREFECT") -> Iterator[str]:
    """Name all environment variables that Prefect reads as settings, the short old names too."""
    for name, field in model.model_fields.items():
        inner = next((kind for kind in (field.annotation,) if hasattr(kind, "model_fields")), None)
        if inner:
            yield from prefect_names(inner, f"{prefix}_{name.upper()}")
        yield f"{prefix}_{name.upper()}"
        choices = getattr(field.validation_alias, "choices", [])
        yield from (choice.upper() for choice in choices if isinstance(choice, str))


def start_server(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run server.sh with a `prefect` that only says how it was called."""
    stub = tmp_path / "prefect"
    stub.write_text('#!/bin/sh\necho "prefect $*"\n')
    stub.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run(
        [DEPLOY / "server.sh"], capture_output=True, text=True, check=False, env=clean | path | environment
    )


def test_server_is_on_loopback_by_default(tmp_path: Path):
    """Without settings the server listens on 127.0.0.1; a loopback address needs no password."""
    assert start_server(tmp_path).stdout == "prefect server start --host 127.0.0.1 --port 4200\n"
    for host in LOOPBACK:
        assert start_server(tmp_path, PREFECT_SERVER_API_HOST=host).returncode == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "127.evil.example"])  # noqa: S104 - what is refused
@pytest.mark.parametrize("password", ["", "x", ":x", "x:"])
def test_server_refuses_other_addresses_without_a_password(tmp_path: Path, host: str, password: str):
    """Any other address without user:password ends with 78 and says what to set; with one the server starts."""
    refused = start_server(tmp_path, PREFECT_SERVER_API_HOST=host, PREFECT_SERVER_API_AUTH_STRING=password)
    assert (refused.returncode, refused.stdout) == (78, "")
    assert "PREFECT_SERVER_API_AUTH_STRING" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    started = start_server(tmp_path, PREFECT_SERVER_API_HOST=host, PREFECT_SERVER_API_AUTH_STRING="user:password")
    assert started.stdout == f"prefect server start --host {host} --port 4200\n"


def test_settings_named_in_deploy_exist():
    """Each PREFECT_ and STSB_BATCH_ variable in any file of deploy/ is one that is read."""
    known = set(prefect_names(PrefectSettings)) | {f"STSB_BATCH_{name.upper()}" for name in Settings.model_fields}
    known |= {"STSB_BATCH_TAG"}  # compose.yaml's own
    for path in TEXTS:
        named = set(re.findall(r"\b((?:PREFECT|STSB_BATCH)_[A-Z0-9_]+[A-Z0-9])\b", path.read_text()))
        assert not {name for name in named - known if not name.startswith(NOT_SETTINGS)}, path.name


def test_prefect_images_are_the_pinned_version():
    """The charts run the Prefect that the constraints pin, and the image our oldest Python."""
    server, worker = values("kubernetes/server-values.yaml"), values("kubernetes/worker-values.yaml")
    assert server["global"]["prefect"]["image"]["prefectTag"] == f"{PINS['prefect']}-python3.11"
    assert worker["worker"]["image"]["prefectTag"] == f"{PINS['prefect']}-python3.11-kubernetes"
    assert re.search(r"^FROM python:3\.11-", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


def test_image_is_pinned_and_not_root():
    """Each install takes the constraints, the last user is not root, and what is copied exists and is not ignored."""
    text = (DEPLOY / "Dockerfile").read_text()
    installs = re.findall(r"pip install .*", text)
    assert installs
    assert all("-c deploy/constraints.txt" in line for line in installs)
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1] not in ("root", "0")
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in line.split()]
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name.split('/')[0]}" in kept


def test_compose_opens_nothing_and_has_no_password():
    """The only port is on loopback, passwords come from outside, and all of ours run one pinned image without root."""
    compose = values("compose.yaml")
    services = compose["services"]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "server": ["127.0.0.1:4200:4200"]
    }
    text = (DEPLOY / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(POSTGRES_PASSWORD|PREFECT_SERVER_API_AUTH_STRING)(..)", text)) == {
        ("POSTGRES_PASSWORD", ":?"),
        ("PREFECT_SERVER_API_AUTH_STRING", ":?"),
    }
    assert {service["image"] for name, service in services.items() if name != "postgres"} == {
        "stsb-batch:${STSB_BATCH_TAG:-cuda}"
    }
    assert services["server"]["command"] == ["deploy/server.sh"]
    devices = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (devices[0]["driver"], devices[0]["capabilities"]) == ("nvidia", ["gpu"])


def test_charts_ask_for_a_password_and_for_a_gpu():
    """Server and worker share a secret; Prefect accepts the pool's job template, which takes GPUs and runs without root."""
    server, worker = values("kubernetes/server-values.yaml"), values("kubernetes/worker-values.yaml")["worker"]
    auth = server["server"]["basicAuth"]
    assert auth["enabled"]
    assert worker["selfHostedServerApiConfig"]["basicAuth"] == auth
    template = json.loads(worker["config"]["baseJobTemplate"]["configuration"])
    WorkPoolCreate(name=worker["config"]["workPool"], type=worker["config"]["type"], base_job_template=template)
    used = {placeholder.name for placeholder in find_placeholders(template["job_configuration"])}
    assert used == set(template["variables"]["properties"])
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    assert pod["securityContext"]["runAsNonRoot"]


def test_units_run_what_is_there_as_nobody_special():
    """Each unit has its own user, no new privileges, a read-only system, and starts a file of ours or Prefect."""
    units = sorted((DEPLOY / "systemd").iterdir())
    assert [unit.name for unit in units] == ["stsb-batch-server.service", "stsb-batch-worker@.service"]
    for unit in units:
        parsed = ConfigParser(strict=False, interpolation=None)
        parsed.optionxform = str
        parsed.read_string(unit.read_text())
        service = parsed["Service"]
        assert (service["User"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("stsb-batch", "yes", "strict")
        started = service["ExecStart"].split()[0].removeprefix("/opt/stsb-batch/")
        assert started == "venv/bin/prefect" or os.access(ROOT / started, os.X_OK)
        assert parsed["Install"]["WantedBy"] == "multi-user.target"


def test_screenshots_are_small_and_shown():
    """The page about nights shows each screenshot, and none is above 150 KiB."""
    pictures = sorted((DEPLOY / "screenshots").iterdir())
    page = (DEPLOY / "docs/nightly.md").read_text()
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.stat().st_size < 150 * 1024
        assert f"](../screenshots/{picture.name})" in page


def typed_commands() -> list[str]:
    """Collect what people are told to type after `stsb-batch`, in the documents and in the heads of the other files."""
    found = []
    for path in TEXTS:
        text = path.read_text()
        found += re.findall(r"`stsb-batch ([^`-][^`]*)`", text)
        found += re.findall(r"^(?:# +)?stsb-batch ([^#\n]+)", text, re.MULTILINE)
        found += [line.replace(",", " ") for line in re.findall(r"\[stsb-batch, ([^\]]+)\]", text)]
    return found


@pytest.mark.parametrize("command", typed_commands())
def test_commands_exist(command: str):
    """Each verb that deploy/ tells people to type exists, with each of its options."""
    words = command.split()
    commands = typer.main.get_command(app).commands
    verb = commands["models"].commands[words[1]] if words[0] == "models" else commands[words[0]]
    known = {option for parameter in verb.params for option in parameter.opts}
    assert {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)} <= known


@pytest.mark.parametrize("code", [20, 65, 66, 69, 70, 73, 74, 75, 77, 78])
def test_runbook_knows_each_exit_code(code: int):
    """Each exit code that stops a run stands in the run-book."""
    assert re.search(rf"\b{code}\b", (DEPLOY / "runbook.md").read_text())
