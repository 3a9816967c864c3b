"""The refresh job: train, measure, gate, register, promote."""

from dataclasses import replace
from pathlib import Path

import pytest

from stsb_batch.errors import GateRefused, StorageError
from stsb_batch.jobs import refresh as job
from stsb_batch.jobs.page import refresh_page
from stsb_batch.jobs.refresh import RefreshRequest, refresh
from stsb_batch.jobs.scorer import score_pair
from stsb_batch.models import registry
from stsb_batch.refresh.gate import GateDecision
from tests.conftest import make_pairs
from tests.models.test_registry import PASSED, add


@pytest.fixture
def request_(bert: Path, tmp_path: Path) -> RefreshRequest:
    """A refresh of the small BERT on 100 labels whose gate lets anything pass that is not broken."""
    make_pairs(100).write_parquet(tmp_path / "labels.parquet")
    return RefreshRequest(labels=str(tmp_path / "labels.parquet"), base_model=str(bert), floor=-1.0)


def test_first_refresh_makes_a_champion(request_: RefreshRequest, settings):
    """What passes becomes champion, its card says what it was made from, and it scores."""
    outcome = refresh(request_)
    assert (outcome.version.reference, outcome.decision.passed) == ("sts@1", True)
    assert registry.find_version(settings.home, "champion").digest == outcome.version.digest
    card = outcome.version.card
    assert card["labels"]["rows"] == {"train": 80, "val": 10, "test": 10}
    assert card["parent"] is None
    assert set(outcome.metrics["slice"]) == {"train", "val", "test"}
    assert isinstance(score_pair("a", "b", model="champion", settings=settings)[0], float)
    assert not list((settings.home / "models/.staging").iterdir())


def test_same_refresh_is_not_trained_twice(request_: RefreshRequest):
    """The same labels, base and recipe give the version that is there; new labels train a second one with a parent."""
    first, again = refresh(request_), refresh(request_)
    assert (again.trained, again.version.reference) == (False, first.version.reference)
    assert again.metrics.equals(first.metrics)
    make_pairs(100, seed=5).write_parquet(request_.labels)
    second = refresh(request_)
    assert (second.version.reference, second.version.card["parent"]) == ("sts@2", "sts@1")
    assert "delta_pearson" in second.decision.figures


def test_refused_candidate_leaves_the_champion(request_: RefreshRequest, settings):
    """Below the floor nothing is promoted; the version is kept with its verdict and cannot be promoted by hand."""
    outcome = refresh(replace(request_, floor=0.999))
    assert not outcome.decision.passed
    assert registry.champions(settings.home)["stack"] == []
    with pytest.raises(GateRefused):
        registry.promote(settings.home, registry.find_version(settings.home, "sts@1"), "by hand")


def test_dry_run_moves_no_pointer(request_: RefreshRequest, settings):
    """A dry run registers and judges, and promotes nothing; the real run then promotes what it made."""
    assert refresh(request_, dry_run=True).decision.passed
    assert registry.champions(settings.home)["stack"] == []
    assert not refresh(request_).trained
    assert registry.champions(settings.home)["stack"] == ["sts@1"]


def test_rolled_back_version_does_not_come_back_by_itself(request_: RefreshRequest, bert: Path, settings):
    """A version that was rolled back is not promoted again by the next refresh from the same labels."""
    first = add(settings.home, bert)
    registry.promote(settings.home, first, "test")
    made = job.judge_candidate(job.plan_refresh(request_), job.train_candidate(job.plan_refresh(request_)))
    version = replace(made.version, card=made.version.card | {"gate": PASSED})
    registry.promote(settings.home, version, "test")
    registry.rollback(settings.home)
    outcome = replace(made, decision=GateDecision(**PASSED))
    assert not job.awaits_promotion(settings.home, outcome)
    assert not refresh(request_).trained
    assert registry.champions(settings.home)["stack"] == ["sts@1"]


def test_disk_full_while_registering_leaves_champion_and_no_candidate(request_: RefreshRequest, settings, monkeypatch):
    """When the registry cannot be written, the champion stays and the staging is swept."""
    refresh(request_)
    make_pairs(100, seed=5).write_parquet(request_.labels)

    def full(*_):
        raise StorageError("disk full")

    monkeypatch.setattr(job.registry, "register", full)
    with pytest.raises(StorageError):
        refresh(request_)
    assert registry.find_version(settings.home, "champion").reference == "sts@1"
    assert not list((settings.home / "models/.staging").iterdir())


def test_page_says_the_verdict_with_intervals(request_: RefreshRequest):
    """The refresh's page begins with the verdict and has the checks, the metrics with intervals, a chart of the versions."""
    refresh(request_)
    make_pairs(100, seed=5).write_parquet(request_.labels)
    page = refresh_page(refresh(replace(request_, floor=0.999)))
    assert page.headline == "sts@2 was refused by the gate, the champion stays."
    assert page.markdown.startswith(f"**{page.headline}**")
    assert "above the floor 1.00 | **FAIL** |" in page.markdown
    assert "90 % interval" in page.markdown
    assert "| test | Pearson | " in page.markdown
    assert page.markdown.count("(data:image/svg+xml;base64,") == 1
    assert "| champion it was held against | sts@1 |" in page.markdown


def test_page_of_a_version_that_is_there_says_so(request_: RefreshRequest):
    """A refresh that found its work done says on its page that nothing was trained."""
    refresh(request_)
    assert "nothing was trained" in refresh_page(refresh(request_)).markdown
