"""The refresh job: labels -> train -> measure -> gate against the champion -> register -> promote or refuse."""

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl

from stsb_batch.durable import file_sha256
from stsb_batch.jobs.evaluate import evaluate
from stsb_batch.jobs.scorer import score_texts
from stsb_batch.models import registry
from stsb_batch.models.base import find_base_model
from stsb_batch.models.checkpoint import WEIGHTS, Checkpoint, open_checkpoint
from stsb_batch.models.decisions import is_rejected
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.gate import GateDecision, GateLimits, decide
from stsb_batch.refresh.labels import Labels, load_labels
from stsb_batch.refresh.recipes import Recipe, find_recipe
from stsb_batch.settings import Settings, load_settings


@dataclass(frozen=True)
class RefreshRequest:
    """What to train from, how, and under which name the result is registered."""

    labels: str
    base_model: str = "distilbert-base-uncased"
    recipe: str = "reference"
    name: str = "sts"
    columns: Columns = field(default_factory=Columns)
    floor: float = GateLimits.floor
    settings: Settings = field(default_factory=load_settings)


@dataclass(frozen=True)
class RefreshPlan:
    """A checked request with its labels in memory. `fingerprint` names labels, base weights and recipe together."""

    request: RefreshRequest
    labels: Labels
    base: Path
    recipe: Recipe
    fingerprint: dict


@dataclass(frozen=True)
class RefreshOutcome:
    """The registered version, its metrics, the gate's verdict; `trained` is false when the champion was up to date."""

    version: registry.Version
    metrics: pl.DataFrame
    decision: GateDecision
    trained: bool


def plan_refresh(request: RefreshRequest) -> RefreshPlan:
    """Load labels and find the base model, so that everything that can be refused is refused before training."""
    recipe = find_recipe(request.recipe)
    labels = load_labels(request.labels, request.columns, timeout=request.settings.hub_timeout)
    base = find_base_model(request.base_model, timeout=request.settings.hub_timeout)
    fingerprint = {"labels": labels.fingerprint, "base": file_sha256(base / WEIGHTS), "recipe": asdict(recipe)}
    return RefreshPlan(request, labels, base, recipe, fingerprint)


def find_done(plan: RefreshPlan) -> RefreshOutcome | None:
    """Return the version that an earlier refresh made from the same labels, base and recipe, the newest if several."""
    for version in reversed(registry.list_versions(plan.request.settings.home)):
        if version.card["name"] == plan.request.name and version.card.get("made_from") == plan.fingerprint:
            return RefreshOutcome(
                version, pl.read_parquet(version.path / "metrics.parquet"), _verdict(version), trained=False
            )
    return None


def _verdict(version: registry.Version) -> GateDecision:
    return GateDecision(**version.card["gate"])


def train_candidate(plan: RefreshPlan, progress: Callable | None = None) -> Path:
    """Train by the recipe into a staging folder of the registry; the caller registers or discards what is returned."""
    from stsb_batch.refresh.train import train

    folder = registry.staging_folder(plan.request.settings.home)
    try:
        train(plan.base, plan.labels, plan.recipe, folder / "candidate", progress=progress)
    except BaseException:
        registry.discard(folder)
        raise
    return folder / "candidate"


def judge_candidate(plan: RefreshPlan, candidate: Path) -> RefreshOutcome:
    """Measure a candidate on all splits, hold it against the champion on the test pairs, register it with its card."""
    home, request = plan.request.settings.home, plan.request
    try:
        checkpoint = open_checkpoint(candidate, "candidate")
        champion = current_champion(home)
        metrics = evaluate(checkpoint, plan.labels.items(), dataset=Path(request.labels).name, settings=request.settings)
        decision = _decide(plan, checkpoint, champion)
        metrics.write_parquet(candidate / "metrics.parquet")
        card = {
            "made_from": plan.fingerprint,
            "recipe": plan.recipe.name,
            "base_model": request.base_model,
            "parent": champion.reference if champion else None,
            "labels": {
                "source": Path(request.labels).name,
                "sha256": plan.labels.fingerprint,
                "rows": {name: frame.height for name, frame in plan.labels.items()},
                "test_pairs_in_train_or_val": plan.labels.leaked,
            },
            "gate": asdict(decision),
            "versions": library_versions(),
        }
        version = registry.register(home, request.name, candidate, card)
    finally:
        registry.discard(candidate.parent)
    return RefreshOutcome(version, metrics, decision, trained=True)


def current_champion(home: Path) -> registry.Version | None:
    """Return the champion's version, None before the first promotion."""
    return registry.find_version(home, "champion") if registry.champions(home)["stack"] else None


def _decide(plan: RefreshPlan, checkpoint: Checkpoint, champion: registry.Version | None) -> GateDecision:
    test, settings = plan.labels.test, plan.request.settings
    texts = test["left"].to_list(), test["right"].to_list()
    return decide(
        test["label"].to_numpy(),
        score_texts(checkpoint, *texts, settings=settings),
        score_texts(registry.verified(champion), *texts, settings=settings) if champion else None,
        GateLimits(floor=plan.request.floor),
    )


def awaits_promotion(home: Path, outcome: RefreshOutcome) -> bool:
    """Say whether a version passed against the present champion and has never been champion itself.

    True after a dry run or a crash before the promotion; false for a version that somebody rolled back or rejected.
    """
    moves = registry.champions(home)
    has_been_champion = any(move["model"] == outcome.version.reference for move in moves["log"])
    present = moves["stack"][-1] if moves["stack"] else None
    is_settled = has_been_champion or is_rejected(outcome.version)
    return outcome.decision.passed and not is_settled and outcome.version.card["parent"] == present


def library_versions() -> dict[str, str]:
    names = ("stsb-batch", "torch", "transformers", "tokenizers", "datasets")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def refresh(request: RefreshRequest, *, progress: Callable | None = None, dry_run: bool = False) -> RefreshOutcome:
    """Run a whole refresh. What passes the gate becomes champion, unless `dry_run`; what does not is kept, with its verdict.

    The same labels, base and recipe are not trained twice: then the version that is there is returned.
    """
    plan = plan_refresh(request)
    outcome = find_done(plan) or judge_candidate(plan, train_candidate(plan, progress))
    if not dry_run and awaits_promotion(request.settings.home, outcome):
        registry.promote(request.settings.home, outcome.version, "passed the gate")
    return outcome
