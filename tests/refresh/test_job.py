"""The refresh job: train, measure, gate, register, promote."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from stsb_batch.errors import BusyError, GateRefused, ModelIntegrityError, StsbBatchError, UsageError
from stsb_batch.inference.scorer import score_pair
from stsb_batch.models import registry
from stsb_batch.refresh import job
from stsb_batch.refresh.job import plan_refresh
from stsb_batch.requests import RefreshRequest
from stsb_batch.settings import Settings
from tests.builders import add_version, make_pairs
from tests.fakes import answer_here

refresh = partial(job.refresh, ask=answer_here)  # a fresh process answers in test_golden.py and under `refresh`
MANY = ",".join(str(number / 100) for number in range(-200, 100))  # so many thresholds that some pair crosses one


def request_in(labels: Path, bert: Path, home: Path) -> RefreshRequest:
    """A refresh of the small BERT on 200 labels whose gate lets anything pass that is not broken."""
    make_pairs(200).write_parquet(labels)
    return RefreshRequest(labels=str(labels), base_model=str(bert), floor=-1.0, settings=Settings(home=home))


@pytest.fixture(scope="module")
def trained(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose one version, sts@1, came out of a dry run, which takes some seconds."""
    folder = tmp_path_factory.mktemp("trained")
    refresh(request_in(folder / "labels.parquet", bert, folder / "home"), dry_run=True)
    return folder / "home"


@pytest.fixture
def request_(trained: Path, bert: Path, tmp_path: Path, settings) -> RefreshRequest:
    """The same refresh again, in a copy of that home."""
    shutil.copytree(trained, settings.home)
    return request_in(tmp_path / "labels.parquet", bert, settings.home)


@pytest.fixture
def champion(request_: RefreshRequest) -> registry.Version:
    """The version of the dry run, promoted."""
    return refresh(request_).version


def new_labels(request: RefreshRequest) -> RefreshRequest:
    make_pairs(200, seed=5).write_parquet(request.labels)
    return request


def test_first_refresh_makes_a_champion(request_: RefreshRequest, settings):
    """What passes becomes champion, its card says what it was made from, and it scores."""
    outcome = refresh(request_)
    assert (outcome.version.reference, outcome.decision.passed) == ("sts@1", True)
    assert registry.find_version(settings.home, "champion").digest == outcome.version.digest
    card = outcome.version.card
    assert card["labels"]["rows"] == {"train": 160, "val": 20, "test": 20}
    assert (card["parent"], card["labels"]["left_out"]) == (None, {})
    assert card["conformal"]["fitted_on"] == 20
    assert "golden_scores" in {check["name"] for check in card["gate"]["checks"]}
    assert isinstance(score_pair("a", "b", model="champion", settings=settings)[0], float)
    assert not list((settings.home / "models/.staging").iterdir())


def test_decision_is_in_the_report(request_: RefreshRequest):
    """The report of a version has the metrics of all splits and the gate's checks, word by word."""
    outcome = refresh(request_)
    assert {"train", "val", "test"} <= set(outcome.metrics["slice"])
    checks = outcome.metrics.filter(pl.col("metric") == "gate_check", pl.col("value") == 1)
    assert checks["slice"].to_list() == [check.detail for check in outcome.decision.checks]


def test_new_labels_train_a_challenger(champion: registry.Version, request_: RefreshRequest):
    """The same labels give the version that is there; new ones train a second, compared with the first."""
    again = refresh(request_)
    assert (again.trained, again.version.reference) == (False, champion.reference)
    second = refresh(new_labels(request_))
    assert (second.version.reference, second.version.card["parent"]) == ("sts@2", "sts@1")
    delta = second.metrics.filter(pl.col("metric") == "gate_delta_pearson").row(0, named=True)
    assert delta["value"] == second.decision.figures["delta_pearson"]
    assert delta["lower"] <= delta["value"] <= delta["upper"]


def test_other_limits_judge_the_same_weights_again(request_: RefreshRequest, settings):
    """With another floor the weights that are there are judged again, as a version of their own, which is refused here;
    nothing is trained, nothing promoted, not even by hand."""
    outcome = refresh(replace(request_, floor=0.999))
    assert (outcome.trained, outcome.version.reference, outcome.decision.passed) == (False, "sts@2", False)
    assert outcome.version.digest == registry.find_version(settings.home, "sts@1").digest
    assert registry.champions(settings.home)["stack"] == []
    with pytest.raises(GateRefused):
        registry.promote(settings.home, outcome.version, "by hand")


def test_dry_run_moves_no_pointer(request_: RefreshRequest, settings):
    """A dry run promotes nothing; the real run then promotes what it made."""
    assert refresh(request_, dry_run=True).decision.passed
    assert registry.champions(settings.home)["stack"] == []
    assert not refresh(request_).trained
    assert registry.champions(settings.home)["stack"] == ["sts@1"]


def test_rolled_back_version_does_not_come_back_by_itself(request_: RefreshRequest, bert: Path, settings):
    """A version that was rolled back is not promoted again by the next refresh from the same labels."""
    version = registry.find_version(settings.home, "sts@1")
    for model in (add_version(settings.home, bert), version):
        registry.promote(settings.home, model, "test")
    registry.rollback(settings.home)
    assert not refresh(request_).trained
    assert registry.champions(settings.home)["stack"] == ["sts@2"]


def test_champion_that_moved_meanwhile_is_not_replaced(request_: RefreshRequest, bert: Path, settings):
    """A version that was held against another champion than the one that stands now is kept and not promoted."""
    rival = add_version(settings.home, bert)
    registry.promote(settings.home, rival, "another refresh")
    version = registry.find_version(settings.home, "sts@1")
    assert not registry.promote_over_parent(settings.home, version, "passed the gate")
    assert not refresh(request_).trained
    assert registry.champions(settings.home)["stack"] == [rival.reference]


def test_unlabelled_pairs_need_a_silver_stage(request_: RefreshRequest):
    """Unlabelled text with a recipe that cannot use it is a usage error, before anything is trained."""
    with pytest.raises(UsageError, match="silver stage"):
        refresh(replace(request_, unlabelled=request_.labels))


def test_unlabelled_texts_are_read_once_each_and_named_in_the_fingerprint(request_: RefreshRequest, tmp_path: Path):
    """Texts of both columns count once, blank and null ones not at all; other texts make another model."""
    texts = {"sentence1": ["b", "a", None, " "], "sentence2": ["a", "c", "d", "b"]}
    pl.DataFrame(texts).write_parquet(tmp_path / "night.parquet")
    plan = plan_refresh(replace(request_, recipe="best", unlabelled=str(tmp_path / "night.parquet")))
    assert plan.unlabelled == ("a", "b", "c", "d")
    assert plan.fingerprint != plan_refresh(replace(request_, recipe="best")).fingerprint


def test_churn_is_told_and_a_limit_refuses(champion: registry.Version, request_: RefreshRequest, settings, tmp_path: Path):
    """Champion and challenger score real pairs: the card has figures and positions, no texts; a limit refuses."""
    make_pairs(300, seed=8).drop("label").write_parquet(tmp_path / "night" / "a.parquet", mkdir=True)
    asked = replace(request_, churn_sample=str(tmp_path / "night"), thresholds=MANY, max_churn=0.0)
    outcome = refresh(new_labels(asked))
    assert not outcome.decision.passed
    [check] = [check for check in outcome.decision.checks if check.name == "churn"]
    assert not check.passed
    assert "churn of 300 pairs" in check.detail
    assert check.detail.endswith("at most 0.00% allowed")
    churn = outcome.version.card["churn"]
    assert (churn["pairs"], churn["sample"], len(churn["movers"])) == (300, "night", 10)
    assert set(churn["movers"][0]) == {"file", "row", "champion", "challenger"}
    assert registry.champions(settings.home)["stack"] == [champion.reference]


def test_another_churn_limit_judges_again(champion: registry.Version, request_: RefreshRequest, tmp_path: Path):
    """What a limit has refused a looser one may let pass; the weights are those that are there."""
    make_pairs(300, seed=8).write_parquet(tmp_path / "a.parquet")
    asked = replace(new_labels(request_), churn_sample=str(tmp_path / "a.parquet"), thresholds=MANY, max_churn=0.0)
    assert not refresh(asked).decision.passed
    again = refresh(replace(asked, max_churn=1.0))
    assert (again.trained, again.version.reference, again.decision.passed) == (False, "sts@3", True)
    assert refresh(replace(asked, max_churn=1.0)).version.reference == "sts@3"


def test_stopped_in_the_gate_trains_nothing_again(request_: RefreshRequest):
    """A refresh that is stopped between training and verdict finds the candidate again."""
    steps = []

    def stop(_: str):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh(new_labels(request_), progress=steps.append, ask=stop)
    trained = len(steps)
    assert refresh(request_, progress=steps.append).version.reference == "sts@2"
    assert len(steps) == trained > 0


def test_what_can_be_refused_is_refused_before_training(champion: registry.Version, request_: RefreshRequest):
    """A name that cannot be, a floor beyond r, and a damaged champion are told while nothing has been trained."""
    for asked in (replace(request_, name="Bad Name"), replace(request_, name="champion.json")):
        with pytest.raises(UsageError):
            plan_refresh(asked)
    with pytest.raises(UsageError, match="--floor takes -1 to 1"):
        replace(request_, floor=2.0)
    weights = champion.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelIntegrityError):
        plan_refresh(request_)


def test_churn_holds_back_a_version_that_was_made_before(
    champion: registry.Version, request_: RefreshRequest, settings, tmp_path: Path
):
    """After a dry run without a sample, a refresh with one holds the version against it before promoting."""
    loose = new_labels(request_)
    made = refresh(loose, dry_run=True)
    assert made.decision.passed, made.decision.checks
    make_pairs(300, seed=8).write_parquet(tmp_path / "a.parquet")
    asked = replace(loose, churn_sample=str(tmp_path / "a.parquet"), thresholds=MANY, max_churn=0.0)
    outcome = refresh(asked)
    assert (outcome.trained, outcome.decision.passed, outcome.churn.churn.pairs) == (False, False, 300)
    assert registry.champions(settings.home)["stack"] == [champion.reference]


def test_one_process_at_a_time_works_in_a_staging_folder(request_: RefreshRequest):
    """The same request trains in the same folder, which a killed refresh leaves to the next; never two at once."""
    plan = job.plan_refresh(new_labels(request_))
    candidate = job.train_candidate(plan)
    assert job.train_candidate(plan) == candidate
    with registry.staging_lock(candidate.parent), pytest.raises(BusyError, match="is in use by process"):
        job.judge_candidate(plan, candidate)
    assert candidate.is_dir()


def test_registry_that_cannot_be_written_leaves_champion_and_no_candidate(
    champion: registry.Version, request_: RefreshRequest, settings
):
    """When a file stands where the registry would write, the champion stays and the staging is swept."""
    (settings.home / "models/other").touch()
    with pytest.raises(StsbBatchError, match="registering the model"):
        refresh(replace(new_labels(request_), name="other"))
    assert registry.find_version(settings.home, "champion").reference == champion.reference
    assert not list((settings.home / "models/.staging").iterdir())
