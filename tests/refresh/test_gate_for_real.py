"""The gate on models that were really trained, from MiniLM on the starter set. Minutes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from stsb_batch.demo.warehouse import starter_set
from stsb_batch.errors import GateRefused
from stsb_batch.models import registry
from stsb_batch.refresh.job import RefreshPlan, find_done, judge_candidate, plan_refresh, train_candidate
from stsb_batch.refresh.recipes import Recipe, Stage
from stsb_batch.requests import RefreshRequest

pytestmark = pytest.mark.slow
QUICK = Recipe("quick", gold=Stage(epochs=2, batch_size=16, learning_rate=1e-4, warmup_steps=20, length_grouped=True))


def plan(labels: pl.DataFrame, folder: Path, home: Path, **changes) -> RefreshPlan:
    """Plan a quick fine-tune of MiniLM on these labels."""
    labels.write_parquet(folder / "labels.parquet")
    asked = {"slice_column": "kind", "floor": 0.4} | changes  # so little training reaches a Pearson of about 0.6
    made = plan_refresh(RefreshRequest(str(folder / "labels.parquet"), "minilm", **asked))
    return replace(made, recipe=QUICK, fingerprint=made.fingerprint | {"recipe": "quick"})


def shuffled(labels: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Give the training pairs each other's labels."""
    train = labels.filter(pl.col("split") == "train")
    others = labels.filter(pl.col("split") != "train")
    return pl.concat([train.with_columns(pl.col("label").shuffle(seed=seed)), others])


def with_constant_head(model: Path, folder: Path) -> Path:
    """Copy a checkpoint into a staging folder and let its head say 2.5 to everything."""
    shutil.copytree(model, folder / "candidate")
    weights = load_file(folder / "candidate/model.safetensors")
    weights["classifier.weight"].zero_()
    weights["classifier.bias"].fill_(2.5)
    save_file(weights, folder / "candidate/model.safetensors", metadata={"format": "pt"})
    return folder / "candidate"


def test_only_what_has_learned_passes(tmp_path: Path, settings):
    """A trained model becomes champion; the same weights judged again pass; shuffled labels, a constant head and a leaked
    test set are refused, each for its own reason."""
    starter = starter_set()
    honest = plan(starter, tmp_path, settings.home)
    first = judge_candidate(honest, train_candidate(honest))
    assert first.decision.passed, first.decision.checks
    registry.promote(settings.home, first.version, "test")

    equal = plan(starter, tmp_path, settings.home, floor=0.3)
    assert find_done(equal) is None
    again = judge_candidate(equal, train_candidate(equal))
    assert (again.decision.passed, again.trained, again.decision.figures["delta_pearson"]) == (True, False, 0.0)

    for seed in range(2):
        wrong = plan(shuffled(starter, seed), tmp_path, settings.home)
        refused = judge_candidate(wrong, train_candidate(wrong))
        assert {"pearson", "delta_pearson"} <= {check.name for check in refused.decision.failed}, refused.decision.checks

    stuck = judge_candidate(honest, with_constant_head(first.version.path, registry.staging_folder(settings.home)))
    assert any(check.name == "spread" for check in stuck.decision.checks)
    assert not stuck.decision.passed

    test = starter.filter(pl.col("split") == "test").with_columns(split=pl.lit("train"))
    with pytest.raises(GateRefused, match="304 of 304 test pairs are also in train or val"):
        plan(pl.concat([starter, test]), tmp_path, settings.home)
    assert registry.champions(settings.home)["stack"] == ["sts@1"]
    assert np.isclose(first.version.card["conformal"]["covered"], 0.9, atol=0.1)
