"""Training: small models, real Trainer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stsb_batch.errors import ModelIntegrityError
from stsb_batch.refresh.fine_tune import Step
from stsb_batch.refresh.recipes import RECIPES, Recipe, Stage
from stsb_batch.refresh.train import train
from tests.builders import make_labels


@pytest.mark.parametrize("base", ["bert", "distilbert"])
def test_checkpoint_is_standard_and_training_is_repeatable(base: str, request: pytest.FixtureRequest, tmp_path: Path):
    """Two runs give the same standard checkpoint, which plain transformers loads with one output; the loss is finite."""
    folder, recipe, runs = request.getfixturevalue(base), Recipe("t", gold=Stage(epochs=2, warmup_steps=2)), []
    for name in ("a", "b"):
        steps = []
        train(folder, make_labels(), recipe, tmp_path / name, progress=steps.append)
        runs.append([step.figures for step in steps])
    assert runs[0] == runs[1]
    assert np.isfinite(steps[-1].figures["val_mse"])
    assert steps[-1].done == steps[-1].total == 6
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a").eval()
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    inputs = AutoTokenizer.from_pretrained(tmp_path / "a")("red pump", "blue pump", return_tensors="pt")
    with torch.inference_mode():
        assert model(**inputs).logits.shape == (1, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_silver_stage_runs_before_gold(bert: Path, tmp_path: Path):
    """The silver recipe trains two stages and leaves only the final checkpoint."""
    stage = Stage(epochs=1, warmup_steps=0, length_grouped=True)
    stages = []
    train(
        bert,
        make_labels(),
        Recipe("t", gold=stage, silver=stage, silver_factor=1.0),
        tmp_path / "out",
        progress=lambda step: stages.append(step.stage),
    )
    assert list(dict.fromkeys(stages)) == ["silver, texts", "silver", "gold"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_part_of_the_gold_stage_is_kept(bert: Path, tmp_path: Path):
    """With `kept_gold` each weight lies so far between the silver and the gold stage; the checkpoint is a standard one."""
    stage = Stage(epochs=1, batch_size=16, warmup_steps=0)
    weights = {}
    for kept in (0.0, 0.25, 1.0):
        recipe = Recipe("t", gold=stage, silver=stage, silver_factor=1.0, kept_gold=kept)
        train(bert, make_labels(), recipe, tmp_path / f"{kept}")
        weights[kept] = AutoModelForSequenceClassification.from_pretrained(tmp_path / f"{kept}").state_dict()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.0", "0.25", "1.0"]
    assert not torch.equal(weights[0.0]["classifier.weight"], weights[1.0]["classifier.weight"])
    for name, mixed in weights[0.25].items():
        assert torch.allclose(mixed, 0.75 * weights[0.0][name] + 0.25 * weights[1.0][name], atol=1e-6)


def test_base_model_that_is_none(tmp_path: Path):
    """A folder whose model cannot be loaded is a model error that names it."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelIntegrityError, match=str(tmp_path)):
        train(tmp_path, make_labels(), RECIPES["reference"], tmp_path / "out")


def test_killed_training_goes_on_where_it_was(bert: Path, tmp_path: Path):
    """Training that is killed in the gold stage trains no finished stage again, goes on within the epoch."""
    stage = Stage(epochs=3, batch_size=16, warmup_steps=0, swapped=True)
    recipe, steps = Recipe("t", gold=stage, silver=stage, silver_factor=1.0), []

    def killed_late(step: Step) -> None:
        if (step.stage, step.done) == ("gold", 9):  # six steps an epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(bert, make_labels(), recipe, tmp_path / "out", progress=killed_late)
    train(bert, make_labels(), recipe, tmp_path / "out", progress=steps.append)
    assert {step.stage for step in steps} == {"gold"}
    assert [step.done for step in steps] == list(range(7, 19))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_half_written_state_is_not_gone_on_from(bert: Path, tmp_path: Path):
    """A state whose writing was cut off is passed over."""
    stage, steps = Stage(epochs=1, batch_size=16, warmup_steps=0), []
    (tmp_path / "out.training/checkpoint-4").mkdir(parents=True)
    train(bert, make_labels(), Recipe("t", gold=stage), tmp_path / "out", progress=steps.append)
    assert [step.done for step in steps] == list(range(1, 7))


def test_unlabelled_texts_join_the_silver_stage(bert: Path, tmp_path: Path):
    """More texts make more silver pairs, so the silver stage takes more steps."""
    stage = Stage(epochs=1, batch_size=16, warmup_steps=0)
    totals = []
    for name, texts in (("with", [f"text number {n}" for n in range(400)]), ("without", [])):
        steps = []
        recipe = Recipe("t", gold=stage, silver=stage, silver_factor=1.0)
        train(bert, make_labels(), recipe, tmp_path / name, unlabelled=texts, progress=steps.append)
        totals.append(next(step.total for step in steps if step.stage == "silver"))
    assert totals[0] > totals[1] + 20
