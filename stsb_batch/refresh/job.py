"""The refresh job: labels -> train -> measure -> gate against the champion -> register -> promote or refuse."""

import errno
import importlib.metadata
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import polars as pl

from stsb_batch.durable import file_sha256, json_sha256
from stsb_batch.errors import BadDataError, BusyError, GateRefused, StsbBatchError, UsageError, storage_error
from stsb_batch.inference.scorer import open_plain_scorer
from stsb_batch.models import registry
from stsb_batch.models.base import find_base_model
from stsb_batch.models.checkpoint import WEIGHTS, Checkpoint, load_tokenizer, open_checkpoint
from stsb_batch.models.cleanup import sweep_staging
from stsb_batch.models.decisions import is_rejected
from stsb_batch.refresh.churn import churn_check
from stsb_batch.refresh.evaluate import evaluate
from stsb_batch.refresh.gate import MIN_TEST, GateDecision, GateLimits, leak_check
from stsb_batch.refresh.golden import Ask, ask_fresh_process
from stsb_batch.refresh.judge import gate_rows, judge
from stsb_batch.refresh.labels import Labels, check_learnable, load_labels
from stsb_batch.refresh.recipes import Recipe, find_recipe
from stsb_batch.refresh.sample import Sample, read_sample, read_texts
from stsb_batch.refresh.sample_churn import SampleChurn, churn_on
from stsb_batch.refresh.splits import HELD_OUT_SHARE
from stsb_batch.requests import RefreshRequest


@dataclass(frozen=True)
class RefreshPlan:
    """A checked request with its labels in memory. `fingerprint` names labels, base weights and recipe together."""

    request: RefreshRequest
    labels: Labels
    base: Path
    recipe: Recipe
    fingerprint: dict
    sample: Sample | None = None
    unlabelled: tuple[str, ...] = ()

    @property
    def judged_by(self) -> dict:
        """What of the request decides the gate's verdict; a version is judged again when it changes."""
        request = self.request
        return {"floor": request.floor, "slice": request.slice_column, "max_churn": request.max_churn}

    def has_judged(self, version: registry.Version) -> bool:
        """Say whether a version was judged by these limits. The limit of churn counts only for a version that was refused:
        one that passed is compared with the sample again each time."""
        judged = {"max_churn": None} | version.card.get("judged_by", self.judged_by)
        if version.card["gate"]["passed"]:
            judged["max_churn"] = self.request.max_churn
        return judged == self.judged_by


@dataclass(frozen=True)
class RefreshOutcome:
    """The registered version, its report and the gate's decision; `trained` is false when its weights existed before."""

    version: registry.Version
    metrics: pl.DataFrame
    decision: GateDecision
    trained: bool
    churn: SampleChurn | None = None


def plan_refresh(request: RefreshRequest) -> RefreshPlan:
    """Load and check labels, base model and churn sample, so that every refusal that is possible comes before training.

    Raises `GateRefused` where too many test pairs are also in train or val, since no model trained on such labels can pass,
    and `ModelIntegrityError` where the champion, with which the model has to be compared, is damaged.
    """
    registry.check_name(request.name)
    if champion := current_champion(request.settings.home):
        registry.verified(champion)
    recipe = find_recipe(request.recipe)
    if request.unlabelled and recipe.silver is None:
        raise UsageError(f"--unlabelled needs a recipe with a silver stage (best or silver); {recipe.name} has none.")
    timeout = request.settings.hub_timeout
    labels = load_labels(request.labels, request.columns, slice_column=request.slice_column, timeout=timeout)
    check_learnable(labels, request.labels)
    pairs = labels.test.height
    if pairs < MIN_TEST:
        raise BadDataError(
            f"{request.labels}: {pairs} test pairs are too few for the gate, at least {MIN_TEST} are needed: "
            f"{round(MIN_TEST / HELD_OUT_SHARE)} labelled pairs, or a split 'test' of {MIN_TEST}."
        )
    leak = leak_check(labels.leaked, pairs)
    if not leak.passed:
        raise GateRefused(f"{request.labels}: {leak.detail}. Remove these pairs from train and val, or from test.")
    base = find_base_model(request.base_model, timeout=timeout)
    load_tokenizer(base)
    sample = read_sample(request.churn_sample, request.columns) if request.churn_sample else None
    unlabelled = read_texts(request.unlabelled, request.columns) if request.unlabelled else ()
    fingerprint = {"labels": labels.fingerprint, "base": file_sha256(base / WEIGHTS), "recipe": asdict(recipe)}
    if unlabelled:
        fingerprint["unlabelled"] = json_sha256(unlabelled)
    return RefreshPlan(request, labels, base, recipe, fingerprint, sample, unlabelled)


def find_done(plan: RefreshPlan) -> RefreshOutcome | None:
    """Return the newest version that an earlier refresh made from the same labels, base and recipe and judged by the same
    limits; None where there is none. If it still awaits promotion, a churn sample is checked too."""
    home = plan.request.settings.home
    version = next(filter(plan.has_judged, _made_before(plan)), None)
    if version is None:
        return None
    metrics = version.metrics()
    outcome = RefreshOutcome(version, metrics, GateDecision.from_card(version.card["gate"]), trained=False)
    champion = current_champion(home)
    if champion and awaits_promotion(home, outcome):
        churn = _churn(plan, registry.verified(version), champion)
        if churn:
            check = churn_check(churn.churn, plan.request.max_churn)
            outcome = replace(outcome, decision=outcome.decision.with_check(check), churn=churn)
    return outcome


def _made_before(plan: RefreshPlan) -> list[registry.Version]:
    """List the versions of this name that were made from the same labels, base and recipe, newest first."""
    versions = [v for v in registry.readable_versions(plan.request.settings.home) if v.card["name"] == plan.request.name]
    return [version for version in reversed(versions) if version.card.get("made_from") == plan.fingerprint]


def train_candidate(plan: RefreshPlan, progress: Callable | None = None) -> Path:
    """Train by the recipe in a staging folder of the registry; returns the candidate's folder, which the caller judges.

    The folder is the same for the same labels, base and recipe, so that stopped training resumes; one process works in it
    at a time (`BusyError`). Nothing is trained where a version, or a candidate that was not judged yet, has these weights.
    """
    from stsb_batch.refresh.train import train

    sweep_staging(plan.request.settings.home)
    folder = _staging(plan)
    candidate = folder / "candidate"
    with registry.staging_lock(folder):
        try:
            folder.mkdir(exist_ok=True)
            before = _made_before(plan)
            if before:
                registry.discard(candidate)
                registry.verified(before[0])
                shutil.copytree(before[0].path, candidate)
            elif not candidate.is_dir():
                train(plan.base, plan.labels, plan.recipe, candidate, unlabelled=plan.unlabelled, progress=progress)
        except Exception as error:
            registry.discard(folder)
            full = _storage_fault(error)
            if full:
                raise storage_error(full, "saving the model", candidate) from error
            raise
    return candidate


def _staging(plan: RefreshPlan) -> Path:
    """Return the folder where the candidate of a plan is trained."""
    return registry.staging_folder(plan.request.settings.home, json_sha256(plan.fingerprint)[:32])


def _storage_fault(error: Exception) -> OSError | None:
    """Return the operating-system error that a library wrapped while saving; None where there is none."""
    if isinstance(error, StsbBatchError):
        return None
    if isinstance(error, OSError) and error.errno:
        return error
    numbered = re.search(r"os error (\d+)", str(error))  # safetensors
    if numbered:
        return OSError(int(numbered[1]), re.sub(r"\s*\(os error.*", "", str(error)).rpartition(": ")[2])
    if "PytorchStreamWriter" in str(error):  # torch.save gives no error number
        return OSError(errno.EIO, "writing failed, perhaps the disk is full")
    return None


def judge_candidate(plan: RefreshPlan, candidate: Path, ask: Ask = ask_fresh_process) -> RefreshOutcome:
    """Measure a candidate on all splits, compare it with the champion on the test pairs, register it with its card.

    `ask` has the golden pairs scored again, by default in a fresh process. Raises `BusyError` while another process works on
    it, and where labels or base changed since it was trained; after any other error it is discarded.
    """
    if candidate.parent != _staging(plan):
        raise BusyError(f"{plan.request.labels}: the labels or the base model changed during the refresh. Run it again.")
    with registry.staging_lock(candidate.parent):
        try:
            outcome = _judge(plan, candidate, ask)
        except Exception:  # an interrupt is no Exception: a stopped refresh finds its candidate again
            registry.discard(candidate.parent)
            raise
        registry.discard(candidate.parent)
        return outcome


def _judge(plan: RefreshPlan, candidate: Path, ask: Ask) -> RefreshOutcome:
    home, request, labels = plan.request.settings.home, plan.request, plan.labels
    checkpoint, champion = open_checkpoint(candidate, "candidate"), current_champion(home)
    trained = not _made_before(plan)
    scorer = open_plain_scorer(checkpoint, request.settings)
    found = evaluate(checkpoint, scorer, labels.items(), dataset=Path(request.labels).name)
    churn = _churn(plan, checkpoint, champion) if champion else None
    also = [churn_check(churn.churn, request.max_churn)] if churn else []
    limits = GateLimits(floor=request.floor)
    decision = judge(labels, found, candidate, champion, limits=limits, also=also, settings=request.settings, ask=ask)
    metrics = pl.concat([found.report, gate_rows(found.report, decision)])
    metrics.write_parquet(candidate / registry.METRICS)
    card = {
        "made_from": plan.fingerprint,
        "judged_by": plan.judged_by,
        "recipe": plan.recipe.name,
        "base_model": request.base_model,
        "parent": champion.reference if champion else None,
        "labels": {
            "source": Path(request.labels).name,
            "scale": request.columns.label_scale,
            "sha256": labels.fingerprint,
            "rows": {name: frame.height for name, frame in labels.items()},
            "left_out": labels.left_out,
            "pairs_with_different_labels": labels.conflicts.different,
            "test_pairs_in_train_or_val": labels.leaked,
        },
        "gate": asdict(decision),
        "conformal": asdict(found.conformal),
        "churn": churn.to_card() if churn else None,
        "versions": library_versions(),
    }
    version = registry.register(home, request.name, candidate, card)
    return RefreshOutcome(version, metrics, decision, trained, churn)


def current_champion(home: Path) -> registry.Version | None:
    """Return the champion, None before the first promotion."""
    return registry.find_version(home, "champion") if registry.champions(home)["stack"] else None


def _churn(plan: RefreshPlan, challenger: Checkpoint, champion: registry.Version) -> SampleChurn | None:
    if plan.sample is None:
        return None
    request = plan.request
    return churn_on(plan.sample, registry.verified(champion), challenger, request.decision_thresholds, request.settings)


def awaits_promotion(home: Path, outcome: RefreshOutcome) -> bool:
    """Say whether a version passed the gate against the current champion and has never been champion itself.

    True after a dry run or a crash before the promotion; false for a version that was rolled back or rejected.
    """
    moves = registry.champions(home)
    has_been_champion = any(move.get("digest") == outcome.version.digest for move in moves["log"])
    current = moves["stack"][-1] if moves["stack"] else None
    is_decided = has_been_champion or is_rejected(outcome.version)
    return outcome.decision.passed and not is_decided and outcome.version.card["parent"] == current


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that training depends on, for the model's card."""
    names = ("stsb-batch", "torch", "transformers", "tokenizers", "datasets")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def refresh(
    request: RefreshRequest, *, progress: Callable | None = None, dry_run: bool = False, ask: Ask = ask_fresh_process
) -> RefreshOutcome:
    """Run a refresh: train, judge, register, and promote a version that passes the gate, unless `dry_run`.

    A refused version is kept with its decision. The same labels, base and recipe are not trained twice: the existing version
    is returned. A version that passed against a champion that was replaced meanwhile is kept and not promoted.
    """
    plan = plan_refresh(request)
    outcome = find_done(plan) or judge_candidate(plan, train_candidate(plan, progress), ask)
    if not dry_run and awaits_promotion(request.settings.home, outcome):
        registry.promote_over_parent(request.settings.home, outcome.version, "passed the gate")
    return outcome
