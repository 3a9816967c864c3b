"""What people decide about a model version."""

from pathlib import Path

import pytest

from stsb_batch.errors import GateRefused, ModelIntegrityError, NothingToReadError
from stsb_batch.models import decisions, registry
from tests.builders import add_version


def test_an_approval_promotes_and_stands_on_the_card(tmp_path: Path, bert: Path):
    """The version is champion, and log and card say who decided and why."""
    version = add_version(tmp_path, bert)
    decisions.approve(tmp_path, version, "Kim", "looks right")
    assert registry.champions(tmp_path)["stack"] == ["sts@1"]
    assert registry.champions(tmp_path)["log"][0]["reason"] == "promote: approved by Kim: looks right"
    kept = decisions.decisions(version)
    assert [(entry["decision"], entry["by"], entry["reason"]) for entry in kept] == [("promote", "Kim", "looks right")]


def test_a_rejection_counts_until_somebody_decides_anew(tmp_path: Path, bert: Path):
    """The last decision is the one that holds; all are kept."""
    version = add_version(tmp_path, bert)
    decisions.record(version, "reject", "Kim", "too soon")
    assert decisions.is_rejected(version)
    decisions.approve(tmp_path, version, "Kim", "now")
    assert not decisions.is_rejected(version)
    assert len(decisions.decisions(version)) == 2


def test_decisions_leave_the_digest_alone(tmp_path: Path, bert: Path):
    """A version with decisions still verifies."""
    version = add_version(tmp_path, bert)
    decisions.record(version, "reject", "Kim", "too soon")
    assert registry.verified(version).digest == version.digest


def test_a_refused_version_cannot_be_approved(tmp_path: Path, bert: Path):
    """The gate stands above any decision, and nothing is kept of the attempt."""
    version = add_version(tmp_path, bert, passed=False)
    with pytest.raises(GateRefused):
        decisions.approve(tmp_path, version, "Kim", "force")
    assert decisions.decisions(version) == []


def test_newest_passed_skips_refused_and_rejected(tmp_path: Path, bert: Path):
    """Without a name the newest version that may become champion is meant."""
    with pytest.raises(NothingToReadError, match="passed its gate"):
        decisions.newest_passed(tmp_path)
    add_version(tmp_path, bert)
    decisions.record(add_version(tmp_path, bert), "reject", "Kim", "too soon")
    add_version(tmp_path, bert, passed=False)
    assert decisions.newest_passed(tmp_path).reference == "sts@1"


def test_a_broken_file_is_named(tmp_path: Path, bert: Path):
    """Decisions that are not JSON are told with their file."""
    version = add_version(tmp_path, bert)
    (version.path / registry.DECISIONS).write_text("{")
    with pytest.raises(ModelIntegrityError, match=r"decisions\.json: not JSON"):
        decisions.is_rejected(version)
