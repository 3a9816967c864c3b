"""The refresh job: train, measure, gate, register, promote."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from stsb_batch.errors import BadDataError, BusyError, GateRefused, ModelIntegrityError, NothingToReadError, StorageError
from stsb_batch.jobs import refresh as job
from stsb_batch.jobs.refresh import RefreshRequest, refresh
from stsb_batch.jobs.scorer import score_pair
from stsb_batch.models import registry
from stsb_batch.refresh.gate import GateDecision
from tests.conftest import make_pairs
from tests.models.test_registry import PASSED, add
from tests.reliability.harness import Driver


@pytest.fixture
def request_(bert: Path, tmp_path: Path) -> RefreshRequest:
    """A refresh of the small BERT on 200 labels whose gate lets anything pass that is not broken."""
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    return RefreshRequest(labels=str(tmp_path / "labels.parquet"), base_model=str(bert), floor=-1.0)


def test_first_refresh_makes_a_champion(request_: RefreshRequest, settings):
    """What passes becomes champion, its card says what it was made from, and it scores."""
    outcome = refresh(request_)
    assert (outcome.version.reference, outcome.decision.passed) == ("sts@1", True)
    assert registry.find_version(settings.home, "champion").digest == outcome.version.digest
    card = outcome.version.card
    assert card["labels"]["rows"] == {"train": 160, "val": 20, "test": 20}
    assert card["parent"] is None
    assert card["labels"]["left_out"] == {}
    assert card["conformal"]["fitted_on"] == 20
    assert any("a fresh process gives 20 test pairs the same scores" in check for check in card["gate"]["checks"])
    assert {"train", "val", "test"} <= set(outcome.metrics["slice"])
    checks = outcome.metrics.filter(pl.col("metric") == "gate_check")
    assert [f"PASS {check}" for check in checks["slice"]] == outcome.decision.checks
    assert isinstance(score_pair("a", "b", model="champion", settings=settings)[0], float)
    assert not list((settings.home / "models/.staging").iterdir())


def test_same_refresh_is_not_trained_twice(request_: RefreshRequest):
    """The same labels, base and recipe give the version that is there; new labels train a second one with a parent."""
    first, again = refresh(request_), refresh(request_)
    assert (again.trained, again.version.reference) == (False, first.version.reference)
    assert again.metrics.equals(first.metrics)
    make_pairs(200, seed=5).write_parquet(request_.labels)
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
    make_pairs(200, seed=5).write_parquet(request_.labels)

    def full(*_):
        raise StorageError("disk full")

    monkeypatch.setattr(job.registry, "register", full)
    with pytest.raises(StorageError):
        refresh(request_)
    assert registry.find_version(settings.home, "champion").reference == "sts@1"
    assert not list((settings.home / "models/.staging").iterdir())


def test_other_limits_judge_the_same_weights_again(request_: RefreshRequest, settings):
    """With another floor the weights that are there are judged again, as a version of their own; nothing is trained."""
    refused = refresh(replace(request_, floor=0.999))
    again = refresh(request_)
    assert (again.trained, again.version.reference, again.decision.passed) == (False, "sts@2", True)
    assert again.version.digest == refused.version.digest
    assert registry.champions(settings.home)["stack"] == ["sts@2"]


def test_champion_that_moved_meanwhile_is_not_replaced(request_: RefreshRequest, bert: Path, settings):
    """A version that was held against another champion than the one that stands now is kept and not promoted."""
    plan = job.plan_refresh(request_)
    outcome = job.judge_candidate(plan, job.train_candidate(plan))
    rival = add(settings.home, bert)
    registry.promote(settings.home, rival, "another refresh")
    assert not registry.promote_over_parent(settings.home, outcome.version, "passed the gate")
    assert not refresh(request_).trained
    assert registry.champions(settings.home)["stack"] == [rival.reference]


def test_churn_is_told_and_a_limit_refuses(request_: RefreshRequest, bert: Path, settings, tmp_path: Path):
    """Champion and challenger score real pairs: the card has figures and positions, no texts; a limit refuses."""
    registry.promote(settings.home, add(settings.home, bert), "test")
    make_pairs(300, seed=8).drop("label").write_parquet(tmp_path / "night" / "a.parquet", mkdir=True)
    asked = replace(request_, churn_sample=str(tmp_path / "night"), thresholds=(-0.7,), max_churn=0.0)
    outcome = refresh(asked)
    assert not outcome.decision.passed
    [line] = [check for check in outcome.decision.checks if "churn of 300 pairs" in check]
    assert line.startswith("FAIL") and line.endswith("at most 0.00% may")
    churn = outcome.version.card["churn"]
    assert (churn["pairs"], churn["sample"], len(churn["movers"])) == (300, "night", 10)
    assert set(churn["movers"][0]) == {"file", "row", "champion", "challenger"}
    assert registry.champions(settings.home)["stack"] == ["sts@1"]


def test_churn_holds_back_a_version_that_was_made_before(request_: RefreshRequest, bert: Path, settings, tmp_path: Path):
    """After a dry run without a sample, a refresh with one holds the version against it before promoting."""
    registry.promote(settings.home, add(settings.home, bert), "test")
    lenient = replace(request_, settings=settings)
    made = job.judge_candidate(job.plan_refresh(lenient), job.train_candidate(job.plan_refresh(lenient)))
    if not made.decision.passed:
        pytest.fail(f"the small model should pass: {made.decision.checks}")
    make_pairs(300, seed=8).write_parquet(tmp_path / "a.parquet")
    asked = replace(lenient, churn_sample=str(tmp_path / "a.parquet"), thresholds=(-0.7,), max_churn=0.0)
    outcome = refresh(asked)
    assert (outcome.trained, outcome.decision.passed, outcome.churn.churn.pairs) == (False, False, 300)
    assert registry.champions(settings.home)["stack"] == ["sts@1"]


def test_killed_refresh_leaves_its_folder_to_the_next(request_: RefreshRequest, settings):
    """The same request trains in the same folder, and only one process at a time."""
    plan = job.plan_refresh(request_)
    candidate = job.train_candidate(plan)
    assert job.train_candidate(plan) == candidate
    with registry.staging_lock(candidate.parent), pytest.raises(BusyError, match="is in use by process"):
        job.judge_candidate(plan, candidate)
    assert candidate.is_dir()
    registry.discard(candidate.parent)


@pytest.mark.parametrize("rows", [20, 199])
def test_too_few_labels_for_the_gate(request_: RefreshRequest, rows: int):
    """Too few test pairs are refused before training, with the number needed."""
    make_pairs(rows).write_parquet(request_.labels)
    with pytest.raises(
        BadDataError, match="test pairs are too few for the gate, at least 20 are needed: 200 labelled pairs"
    ):
        job.plan_refresh(request_)


def test_leaked_test_set_is_refused_before_training(request_: RefreshRequest):
    """A test split that is also in train, sides swapped, is refused by the gate's rule before anything is trained."""
    train, held = make_pairs(100), make_pairs(60, seed=3)
    test = train[:30].rename({"sentence1": "sentence2", "sentence2": "sentence1"}).select(train.columns)
    parts = [("train", train), ("val", held), ("test", test)]
    pl.concat([frame.with_columns(split=pl.lit(name)) for name, frame in parts]).write_parquet(request_.labels)
    with pytest.raises(GateRefused, match="30 of 30 test pairs are also in train or val"):
        job.plan_refresh(request_)


def test_base_without_fast_tokeniser_is_refused_before_training(request_: RefreshRequest, tmp_path: Path, bert: Path):
    """An encoder whose tokeniser exists in Python only is refused with the remedy."""
    base = tmp_path / "canine"
    base.mkdir()
    shutil.copy(bert / "model.safetensors", base)
    (base / "config.json").write_text('{"model_type": "canine"}')
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    with pytest.raises(ModelIntegrityError, match=r"canine: has no fast tokeniser\. Convert it"):
        job.plan_refresh(replace(request_, base_model=str(base)))


def test_unknown_base_models_are_told(request_: RefreshRequest, tmp_path: Path, bert: Path):
    """A base model that is not there, and one without safetensors weights, are told apart before training."""
    with pytest.raises(NothingToReadError, match="no such folder"):
        job.plan_refresh(replace(request_, base_model="./nowhere"))
    shutil.copytree(bert, tmp_path / "base")
    (tmp_path / "base/model.safetensors").unlink()
    with pytest.raises(ModelIntegrityError, match=r"model\.safetensors is missing"):
        job.plan_refresh(replace(request_, base_model=str(tmp_path / "base")))


def test_disk_full_while_saving_leaves_the_champion(request_: RefreshRequest, bert: Path, settings, tmp_path: Path):
    """When the weights cannot be written, a refresh ends with 74 in one line; champion untouched, candidate swept."""
    registry.promote(settings.home, add(settings.home, bert), "test")
    before = (settings.home / "models/champion.json").read_bytes()
    driver = Driver(tmp_path)
    command = ("refresh", "--labels", request_.labels, "--base-model", bert, "--floor", "-1")
    done = driver.run(*command, env={"STSB_BATCH_HOME": str(settings.home)}, file_bytes=1_000_000, real=True)
    driver.close()
    assert done["code"] == 74, done["said"]
    assert "Traceback" not in done["stderr"]
    assert "while saving the model" in done["stderr"].splitlines()[-1]
    assert (settings.home / "models/champion.json").read_bytes() == before
    assert [path.name for path in (settings.home / "models/.staging").iterdir() if any(path.rglob("*"))] == []
    assert [version.reference for version in registry.list_versions(settings.home)] == ["sts@1"]
