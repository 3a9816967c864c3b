"""Where Prefect's own files lie, and what is said where they cannot be written."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stsb_batch.settings import load_settings, prefect_environment
from tests.flows.team import stsb_batch

# root may write anywhere but for these; another user needs no help
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def run(verb: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a verb with nothing in its environment but what is given."""
    output = ["-o", tmp_path / "out"] * (verb != "doctor")
    command = stsb_batch(verb, *([tmp_path / "in"] if output else []), *output)
    clean = {"PATH": os.environ["PATH"]} | environment
    return subprocess.run([*UNPRIVILEGED, *command], env=clean, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Return folders that Prefect cannot use, each for another reason."""
    if UNPRIVILEGED and not shutil.which("setpriv"):
        pytest.skip("root without setpriv may write anywhere")
    (tmp_path / "read-only").mkdir(mode=0o555)
    for name in ("damaged", "foreign"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged/prefect.db").write_bytes(b"no database" * 100)
    (tmp_path / "foreign/prefect.db").touch(mode=0o444)
    nowhere = {"no folder": Path("/proc/home"), "below a file": Path("/dev/null/home")}
    return nowhere | {name: tmp_path / name for name in ("read-only", "damaged", "foreign")}


@pytest.mark.parametrize(
    ("verb", "place", "code"),
    [
        ("nightly", "no folder", 78),
        ("nightly", "below a file", 78),
        ("nightly", "read-only", 77),
        ("nightly", "damaged", 73),
        ("nightly", "foreign", 77),
        ("serve", "read-only", 77),
    ],
)
def test_a_prefect_home_that_cannot_be_written_is_named_before_a_server_starts(verb, place, code, places, tmp_path: Path):
    """Kind: PREFECT_HOME that is no place to write: a line with its name and the remedy, no server, no traceback."""
    done = run(verb, tmp_path, STSB_BATCH_HOME=str(tmp_path / "home"), PREFECT_HOME=str(places[place]))
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert str(places[place]) in done.stderr
    assert not (tmp_path / "home/server.log").exists()


@pytest.mark.parametrize(("verb", "place", "code"), [("nightly", "read-only", 77), ("serve", "no folder", 78)])
def test_a_user_without_a_home_folder_is_told_what_to_set(verb, place, code, places, tmp_path: Path):
    """Kind: HOME that is missing or read-only and no STSB_BATCH_HOME: the same line, with the variables to set."""
    done = run(verb, tmp_path, HOME=str(places[place]))
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert "Set PREFECT_HOME, or STSB_BATCH_HOME" in done.stderr


def test_doctor_finds_a_prefect_home_that_cannot_be_written(places, tmp_path: Path):
    """`doctor` fails where `nightly` would, and names the place."""
    done = run("doctor", tmp_path, STSB_BATCH_HOME=str(tmp_path / "home"), PREFECT_HOME=str(places["foreign"]))
    assert done.returncode == 78
    assert f"FAIL prefect   {places['foreign']}" in done.stdout


def test_prefect_lies_in_our_home_unless_it_is_set(settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without PREFECT_HOME it is `prefect` in ours, and the profiles that a person made stay in force; with it all stays."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.delenv("PREFECT_PROFILES_PATH", raising=False)
    assert prefect_environment(settings.home) == {"PREFECT_HOME": str(settings.home / "prefect")}
    profiles = tmp_path / ".prefect/profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text('active = "team"\n[profiles.team]\nPREFECT_API_URL = "http://127.0.0.2:9/api"\n')
    expected = {"PREFECT_HOME": str(settings.home / "prefect"), "PREFECT_PROFILES_PATH": str(profiles)}
    assert prefect_environment(settings.home) == expected
    done = run("serve", tmp_path, HOME=str(tmp_path), STSB_BATCH_HOME=str(settings.home))
    assert (done.returncode, "http://127.0.0.2:9/api: no answer" in done.stderr) == (69, True)
    monkeypatch.setenv("PREFECT_HOME", "/somewhere/else")
    assert prefect_environment(settings.home) == {}


def test_our_home_is_absolute_for_prefect_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A relative STSB_BATCH_HOME is the same folder for a run that starts elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STSB_BATCH_HOME", "home")
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    assert prefect_environment(load_settings().home)["PREFECT_HOME"] == str(tmp_path / "home/prefect")
