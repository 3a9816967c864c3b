"""Check whether this machine is fit for nightly runs: one finding for each part, with a remedy where something is wrong."""

import ipaddress
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from stsb_batch.errors import StsbBatchError
from stsb_batch.inference.engines import EngineChoice, choose_engine
from stsb_batch.models.hub import hub_answers
from stsb_batch.models.registry import champions, list_versions
from stsb_batch.scoring.verify import Verification
from stsb_batch.scoring.verify_home import model_problems, report_problems
from stsb_batch.settings import Settings, check_prefect_home

OK, WARN, FAIL = "OK", "WARN", "FAIL"
GIB = 1 << 30
FREE_WARN, FREE_FAIL = 10 * GIB, 1 * GIB
SERVER_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """The state of one part (OK, WARN or FAIL), what was found, and what to do about it."""

    part: str
    state: str
    message: str
    remedy: str = ""


def examine(settings: Settings, server: tuple[str | None, dict[str, str]], prefect: Path) -> Iterator[Finding]:
    """Yield the findings for each part.

    `server` is the Prefect server's API address (None: not configured) and the headers that authenticate this client,
    `prefect` the folder of Prefect's files.
    """
    yield packages()
    yield device(settings)
    yield disk(settings.home)
    yield registry(settings.home)
    yield prefect_files(prefect)
    yield reports(settings.home)
    yield from prefect_server(*server)
    yield hub(settings.hub_timeout)


def packages(distribution: str = "stsb-batch") -> Finding:
    """Compare the installed packages with the versions that `distribution` requires."""
    wrong, count = [], 0
    for line in requires(distribution) or []:
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} {found} is not {wanted.specifier}")
    if wrong:
        return Finding("packages", FAIL, "; ".join(wrong), "Install again: pip install -c deploy/constraints.txt -e .")
    return Finding("packages", OK, f"stsb-batch {version(distribution)}, {count} requirements met")


def device(settings: Settings, choose: Callable[..., EngineChoice] = choose_engine) -> Finding:
    """Report which engine, device and precision a run would use."""
    try:
        choice = choose(settings.engine, settings.precision)
    except StsbBatchError as error:
        return Finding("device", FAIL, str(error), "Correct STSB_BATCH_ENGINE or STSB_BATCH_PRECISION, or unset them.")
    if choice.device == "cuda" and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        return Finding(
            "device", WARN, f"{choice}, without fused kernels", "Install a C compiler (gcc): without one scoring is slower."
        )
    return Finding("device", OK, f"{choice}, {os.cpu_count()} cores")


def disk(home: Path, usage: Callable = shutil.disk_usage) -> Finding:
    """Check the free space below `STSB_BATCH_HOME`, and the permission to write there."""
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not place.is_dir():
        return Finding("disk", FAIL, f"{place} is not a folder", "Set STSB_BATCH_HOME to a folder.")
    try:
        tempfile.TemporaryDirectory(dir=place).cleanup()
    except OSError as error:
        remedy = "Give this user write permission, free some space, or set STSB_BATCH_HOME."
        return Finding("disk", FAIL, f"{place} cannot be written to ({error.strerror})", remedy)
    free = usage(place).free
    state = FAIL if free < FREE_FAIL else WARN if free < FREE_WARN else OK
    remedy = "" if state == OK else "Free some space, or set STSB_BATCH_HOME to a folder on a larger disk."
    return Finding("disk", state, f"{free / GIB:,.1f} GiB free at {place}", remedy)


def prefect_files(home: Path) -> Finding:
    """Check that Prefect can write to the folder of its database and results."""
    try:
        check_prefect_home(home)
    except StsbBatchError as error:
        message, _, remedy = str(error).partition(". ")
        return Finding("prefect", FAIL, message, remedy)
    return Finding("prefect", OK, f"its files are in {home}")


def registry(home: Path) -> Finding:
    """Compare the files of every registered model with its card."""
    if problems := list(model_problems(home, Verification())):
        return Finding(
            "models", FAIL, problems[0], "Restore the folder from a backup, or roll back: stsb-batch models rollback."
        )
    versions, stack = list_versions(home), champions(home)["stack"]
    if not stack:
        remedy = "Train one: stsb-batch refresh --labels labelled.parquet --base-model minilm."
        return Finding("models", WARN, f"{len(versions)} versions, no champion", remedy)
    return Finding("models", OK, f"{len(versions)} versions intact, champion {stack[-1]}")


def reports(home: Path) -> Finding:
    """Check the reports of all runs; a damaged one is ignored when runs are compared."""
    found = Verification()
    if problems := list(report_problems(home, found)):
        return Finding("reports", WARN, problems[0], f"Remove the reports that this names: stsb-batch verify {home}")
    return Finding("reports", OK, f"{found.files:,} in the history")


def prefect_server(url: str | None, headers: dict[str, str]) -> Iterator[Finding]:
    """Ask the Prefect server for its version, and check who can reach it."""
    if url is None:
        yield Finding("server", OK, "none configured; each run starts its own")
        return
    import httpx

    remedy = "Start it (prefect server start), or unset PREFECT_API_URL."
    try:
        found = httpx.get(f"{url}/admin/version", timeout=SERVER_SECONDS, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield Finding("server", FAIL, f"{url} does not answer ({type(error).__name__})", remedy)
        return
    if found.status_code in {401, 403}:
        yield Finding(
            "server",
            FAIL,
            f"{url} refused the credentials (HTTP {found.status_code})",
            "Set PREFECT_API_AUTH_STRING as on the server.",
        )
    elif not found.is_success or "json" not in found.headers.get("content-type", ""):
        message = f"{url} answered HTTP {found.status_code}, but not as a Prefect server does"
        yield Finding("server", FAIL, message, "Set PREFECT_API_URL to the /api address of a Prefect 3 server.")
    else:
        yield _server_version(url, str(found.json()))
    yield _server_access(url, headers)


def _server_version(url: str, theirs: str) -> Finding:
    ours = version("prefect")
    if theirs.split(".", maxsplit=1)[0] != ours.split(".")[0]:
        return Finding(
            "server",
            FAIL,
            f"{url} runs Prefect {theirs}, this machine has {ours}",
            "Install the same major version on both.",
        )
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        return Finding(
            "server", WARN, f"{url} runs Prefect {theirs}, this machine has {ours}", "Install the same version on both."
        )
    return Finding("server", OK, f"{url} runs Prefect {theirs}")


def _server_access(url: str, headers: dict[str, str]) -> Finding:
    host = urlsplit(url).hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback:
        return Finding("access", OK, "the server is on this machine only (loopback)")
    if headers:
        return Finding("access", OK, "the server is used with credentials")
    remedy = "Set PREFECT_SERVER_API_AUTH_STRING on the server and PREFECT_API_AUTH_STRING here."
    return Finding(
        "access", FAIL, f"{host} is not loopback and no credentials are set: everyone who reaches it can run code", remedy
    )


def hub(timeout: float) -> Finding:
    """Check whether the model hub answers; only models from the hub need it."""
    if hub_answers(timeout):
        return Finding("hub", OK, "the model hub answers")
    return Finding("hub", OK, "offline: hub models come from the cache only; folders, registered models and minilm work")
