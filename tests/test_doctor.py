"""`doctor` finds what is wrong, says what to do, and passes what is right."""

import json
import threading
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from stsb_batch import doctor
from stsb_batch.inference.engines import EngineChoice
from stsb_batch.models.registry import promote, register, staging_folder
from stsb_batch.settings import Settings

PREFECT = version("prefect")


@pytest.fixture
def server() -> Iterator[tuple[str, dict]]:
    """A stand-in for a Prefect server on loopback; the dictionary says what it answers and keeps the headers it got."""
    answer = {"status": 200, "version": PREFECT}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer["headers"], answer["path"] = dict(self.headers), self.path
            body = json.dumps(answer["version"]).encode()
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", answer.get("type", "application/json"))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None: ...

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/api", answer
    http.shutdown()
    thread.join()
    http.server_close()


def states(findings) -> dict[str, str]:
    return {finding.part: finding.state for finding in findings}


def test_packages_out_of_range_or_missing_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is installed is held against what the package asks for; extras do not count."""
    assert doctor.packages().state == "OK"
    wanted = ["polars>=99", "no-such-package", 'x>1; extra == "demo"', "torch"]
    metadata = tmp_path / "made_up-1.0.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Name: made-up\nVersion: 1.0\n" + "".join(f"Requires-Dist: {line}\n" for line in wanted))
    monkeypatch.syspath_prepend(tmp_path)
    found = doctor.packages("made-up")
    assert found.state == "FAIL"
    assert "is not >=99" in found.message
    assert "no-such-package is missing" in found.message
    assert "x" not in found.message.split()


@pytest.mark.parametrize(("free", "state"), [(50, "OK"), (5, "WARN"), (0.5, "FAIL")])
def test_disk_space(free: float, state: str, tmp_path: Path):
    """Little room warns, hardly any fails, also when the folder is not there yet."""
    usage = namedtuple("usage", "free")(int(free * doctor.GIB))
    found = doctor.disk(tmp_path / "not/yet", lambda _: usage)
    assert (found.state, bool(found.remedy)) == (state, state != "OK")


@pytest.mark.parametrize("place", ["/proc/home", "/dev/null/home"])
def test_a_place_where_nothing_can_be_made_fails(place: str):
    """Kind: a home that is no place to write, though this user (root, say) may write: it is tried, not looked up."""
    assert doctor.disk(Path(place)).state == "FAIL"
    assert doctor.prefect_files(Path(place)).state == "FAIL"


def test_registry_without_champion_warns_and_damage_fails(bert: Path, tmp_path: Path):
    """A model whose file changed after registration is found, and named."""
    assert doctor.registry(tmp_path).state == "WARN"
    candidate = staging_folder(tmp_path)
    for file in bert.iterdir():
        (candidate / file.name).write_bytes(file.read_bytes())
    version = register(tmp_path, "sts", candidate, {"gate": {"passed": True}})
    promote(tmp_path, version, "test")
    assert doctor.registry(tmp_path).message.endswith("champion sts@1")
    weights = version.path / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    found = doctor.registry(tmp_path)
    assert found.state == "FAIL"
    assert "sts@1" in found.message


def test_wrong_engine_fails():
    """An engine that cannot be is told with the settings that ask for it."""
    found = doctor.device(Settings(engine="onnx"))
    assert found.state == "FAIL"
    assert "STSB_BATCH_ENGINE" in found.remedy


@pytest.mark.parametrize(("compiler", "state"), [("cc", "OK"), ("none", "WARN")])
def test_gpu_without_a_compiler_is_a_warning(compiler: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On CUDA our kernels need a C compiler; without one scoring works and is slower."""
    (tmp_path / compiler).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = doctor.device(Settings(), lambda *_: EngineChoice("torch", "cuda", "fp16"))
    assert found.state == state
    assert found.message.startswith("torch fp16 on cuda")


def test_server_that_fits_is_ok(server: tuple[str, dict]):
    """The server's version is asked for at its own address, with our credentials."""
    url, answer = server
    assert states(doctor.prefect_server(url, {"Authorization": "Basic eA=="})) == {"server": "OK", "access": "OK"}
    assert answer["path"] == "/api/admin/version"
    assert answer["headers"]["Authorization"] == "Basic eA=="
    assert states(doctor.prefect_server(None, {})) == {"server": "OK"}


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"version": "2.20.1"}, "FAIL"),
        ({"version": "3.0.0"}, "WARN"),
        ({"status": 401}, "FAIL"),
        ({"status": 404}, "FAIL"),
        ({"type": "text/html"}, "FAIL"),
    ],
)
def test_server_that_does_not_fit(server: tuple[str, dict], answer: dict, state: str):
    """Another major version, a refusal and a wrong address fail; another minor version warns."""
    server[1].update(answer)
    [found, _] = doctor.prefect_server(server[0], {})
    assert (found.state, bool(found.remedy)) == (state, True)


def test_server_that_is_away_fails():
    """Nothing listens on port 1."""
    [found] = doctor.prefect_server("http://127.0.0.1:1/api", {})
    assert (found.state, "does not answer" in found.message) == ("FAIL", True)


@pytest.mark.parametrize(
    ("url", "headers", "state"),
    [
        ("http://10.0.0.7:4200/api", {}, "FAIL"),
        ("http://10.0.0.7:4200/api", {"Authorization": "x"}, "OK"),
        ("http://prefect.internal:4200/api", {}, "FAIL"),
        ("http://localhost:4200/api", {}, "OK"),
        ("http://[::1]:4200/api", {}, "OK"),
    ],
)
def test_access_from_outside_needs_credentials(url: str, headers: dict, state: str):
    """A server that others can reach must ask who they are."""
    assert doctor._server_access(url, headers).state == state
