"""The decisions of people about a model version, kept next to its card for as long as the version exists."""

from pathlib import Path

from stsb_batch.durable import exclusive_lock, write_atomically
from stsb_batch.errors import NothingToReadError
from stsb_batch.models.registry import DECISIONS, Version, champions, now, promote, readable_versions
from stsb_batch.sealed import read_sealed, seal

ENTRIES = [{"decision": str, "by": str, "reason": str, "at": str}]


def decisions(version: Version) -> list[dict[str, str]]:
    """Return the decisions about a version, oldest first: `decision`, `by`, `reason`, `at`."""
    return read_decisions(version.path)[0]


def read_decisions(folder: Path) -> tuple[list[dict[str, str]], bool]:
    """Read the decisions in a version's folder, and say whether the file has a digest (0.1.0 wrote a list without)."""
    try:
        found, checked = read_sealed(folder / DECISIONS, {"decisions": ENTRIES}, earlier=ENTRIES)
    except FileNotFoundError:
        return [], True
    return (found["decisions"] if checked else found), checked


def record(version: Version, decision: str, by: str, reason: str) -> None:
    """Add a decision (`promote` or `reject`) about a version; raises `BusyError` while another process adds one."""
    with exclusive_lock(version.path / ".decisions.lock", f"The card of {version.reference}"):
        entry = {"decision": decision, "by": by, "reason": reason, "at": now()}
        write_atomically(version.path / DECISIONS, seal({"decisions": [*decisions(version), entry]}))


def approve(home: Path, version: Version, by: str, reason: str) -> None:
    """Promote a version on a person's decision; the registry's log and the version's decisions record who and why."""
    promote(home, version, f"approved by {by}: {reason}")
    record(version, "promote", by, reason)


def is_rejected(version: Version) -> bool:
    """Say whether the last decision about a version was to reject it."""
    entries = decisions(version)
    return bool(entries) and entries[-1]["decision"] == "reject"


def newest_passed(home: Path) -> Version:
    """Find the newest version, of any name, that passed its gate and was neither rejected nor rolled back.

    Raises `NothingToReadError` when there is none.
    """
    moves = champions(home)
    rolled_back = {move["model"] for move in moves["log"]} - set(moves["stack"])
    passed = [
        version
        for version in readable_versions(home)
        if version.card["gate"]["passed"] and version.reference not in rolled_back and not is_rejected(version)
    ]
    if not passed:
        raise NothingToReadError("No version has passed its gate. Train one with `stsb-batch refresh`.")
    return max(passed, key=lambda version: (version.card["created_at"], version.card["version"]))
