"""What people decided about a model version: kept beside its card, for good."""

import json
from pathlib import Path

from stsb_batch.durable import exclusive_lock, write_atomically
from stsb_batch.errors import ModelIntegrityError, NothingToReadError
from stsb_batch.models.registry import Version, champions, list_versions, now, promote

FILE = "decisions.json"


def decisions(version: Version) -> list[dict]:
    """Return the decisions about a version, oldest first: `decision`, `by`, `reason`, `at`."""
    try:
        return json.loads((version.path / FILE).read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ModelIntegrityError(f"{version.path / FILE}: not JSON ({error}). Restore the registry folder.") from None


def record(version: Version, decision: str, by: str, reason: str) -> None:
    """Add a decision to what is kept beside a version's card."""
    with exclusive_lock(version.path / ".decisions.lock", f"the card of {version.reference}"):
        entry = {"decision": decision, "by": by, "reason": reason, "at": now()}
        write_atomically(version.path / FILE, json.dumps([*decisions(version), entry], indent=1).encode())


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
        for version in list_versions(home)
        if version.card["gate"]["passed"] and version.reference not in left and not is_rejected(version)
    ]
    if not passed:
        raise NothingToReadError("No version has passed its gate. Train one with `stsb-batch refresh`.")
    return max(passed, key=lambda version: (version.card["created_at"], version.card["version"]))
