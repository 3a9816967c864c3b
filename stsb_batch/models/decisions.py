"""What people decided about a model version: kept beside its card, for good."""

from pathlib import Path

from stsb_batch.durable import exclusive_lock, write_atomically
from stsb_batch.errors import NothingToReadError
from stsb_batch.models.registry import DECISIONS, Version, champions, now, promote, whole_versions
from stsb_batch.sealed import read_sealed, seal

FILE = DECISIONS
KEPT = [{"decision": str, "by": str, "reason": str, "at": str}]


def decisions(version: Version) -> list[dict]:
    """Return the decisions about a version, oldest first: `decision`, `by`, `reason`, `at`."""
    return read_decisions(version.path)[0]


def read_decisions(folder: Path) -> tuple[list[dict], bool]:
    """Read what is kept beside a card, and say whether it carries a digest; version 0.1.0 kept a bare list."""
    try:
        found, checked = read_sealed(folder / FILE, {"decisions": KEPT}, earlier=KEPT)
    except FileNotFoundError:
        return [], True
    return (found["decisions"] if checked else found), checked


def record(version: Version, decision: str, by: str, reason: str) -> None:
    """Add a decision to what is kept beside a version's card."""
    with exclusive_lock(version.path / ".decisions.lock", f"the card of {version.reference}"):
        entry = {"decision": decision, "by": by, "reason": reason, "at": now()}
        write_atomically(version.path / FILE, seal({"decisions": [*decisions(version), entry]}))


def approve(home: Path, version: Version, by: str, reason: str) -> None:
    """Promote a version because somebody decided so; registry log and card say who and why."""
    promote(home, version, f"approved by {by}: {reason}")
    record(version, "promote", by, reason)


def is_rejected(version: Version) -> bool:
    """Say whether the last decision about a version was to reject it."""
    return bool(kept := decisions(version)) and kept[-1]["decision"] == "reject"


def newest_passed(home: Path) -> Version:
    """Find the newest version that passed its gate and was neither rejected nor rolled back, of any name."""
    moves = champions(home)
    left = {move["model"] for move in moves["log"]} - set(moves["stack"])
    passed = [
        version
        for version in whole_versions(home)
        if version.card["gate"]["passed"] and version.reference not in left and not is_rejected(version)
    ]
    if not passed:
        raise NothingToReadError("No version has passed its gate. Train one with `stsb-batch refresh`.")
    return max(passed, key=lambda version: (version.card["created_at"], version.card["version"]))
