"""One stage of training: batches, losses, epochs, precision."""

from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stsb_batch.errors import BadDataError
from stsb_batch.refresh.fine_tune import Collator, fine_tune, symmetric_loss
from stsb_batch.refresh.recipes import Stage
from tests.builders import make_labels


def test_sides_change_at_random(bert: Path):
    """With `swapped` a batch has pairs either way round, without it never."""
    tokenizer = AutoTokenizer.from_pretrained(bert)
    rows = [{"input_ids": [1, 2, 3], "swapped_input_ids": [1, 3, 2], "label": 2.0}] * 64
    torch.manual_seed(0)
    batch = Collator(tokenizer)(rows)
    first = batch["input_ids"][:, 1].tolist()
    assert set(first) == {2, 3}
    assert batch["labels"].tolist() == [2.0] * 64
    assert torch.equal(
        Collator(tokenizer)([{"input_ids": [1, 2, 3], "label": 2.0}] * 4)["input_ids"][:, 1], torch.full((4,), 2)
    )


def test_both_ways_round_and_their_difference(bert: Path):
    """With `both` a batch has each pair twice; the loss is the error of all scores and, in training, how far two orders are
    apart."""
    rows = [{"input_ids": [1, 2, 3], "swapped_input_ids": [1, 3, 2], "label": label} for label in (2.0, 4.0)]
    batch = Collator(AutoTokenizer.from_pretrained(bert), both=True)(rows)
    assert batch["input_ids"][:, 1].tolist() == [2, 2, 3, 3]
    assert batch["labels"].tolist() == [2.0, 4.0, 2.0, 4.0]
    scores = torch.tensor([[2.0], [4.0], [3.0], [2.0]], requires_grad=True)
    outputs = SimpleNamespace(logits=scores)
    assert symmetric_loss(2.0)(outputs, batch["labels"]).item() == pytest.approx((0 + 0 + 1 + 4) / 4 + 2 * (1 + 4) / 2)
    with torch.no_grad():
        outputs.logits = scores.detach()
        assert symmetric_loss(2.0)(outputs, batch["labels"]).item() == pytest.approx((0 + 0 + 1 + 4) / 4)


def test_symmetry_is_trained_and_not_validated(bert: Path, tmp_path: Path):
    """A heavy weight on symmetry is in the training loss and not in the validation loss."""
    frame, figures = make_labels(), []
    for weight in (1e-6, 100.0):
        stage, steps = Stage(epochs=2, batch_size=16, warmup_steps=0, learning_rate=0.0, symmetry=weight), []
        fine_tune(bert, frame.train, frame.val, stage, tmp_path / f"{weight}", progress=steps.append)
        figures.append(steps[-1].figures)
    assert figures[1]["loss"] > figures[0]["loss"] + 0.1
    assert figures[1]["val_mse"] == figures[0]["val_mse"]


@pytest.mark.parametrize("base", ["bert", "distilbert"])
@pytest.mark.parametrize("dropout", [True, False])
def test_dropout_is_the_recipes_choice(base: str, dropout: bool, tmp_path: Path, request: pytest.FixtureRequest):
    """Without `dropout` the model trains as it scores; the checkpoint keeps what its base says of dropout."""
    folder, steps, pairs = request.getfixturevalue(base), [], make_labels(80).train
    stage = Stage(epochs=2, batch_size=8, warmup_steps=0, learning_rate=0.0, dropout=dropout)
    fine_tune(folder, pairs, pairs, stage, tmp_path / "out", progress=steps.append, precision="fp32")
    figures = steps[-1].figures  # the loss is the mean of the ten steps of the first epoch
    assert (figures["loss"] == pytest.approx(figures["val_mse"], rel=1e-5)) is not dropout
    before, after = (AutoModelForSequenceClassification.from_pretrained(path).config for path in (folder, tmp_path / "out"))
    names = ("hidden_dropout_prob", "dropout")
    assert [getattr(after, name, None) for name in names] == [getattr(before, name, None) for name in names]
    assert 0.1 in [getattr(after, name, None) for name in names]


@pytest.mark.parametrize("best_epoch", [True, False])
def test_last_or_best_epoch(best_epoch: bool, bert: Path, tmp_path: Path):
    """Where learning makes the validation loss worse, `best_epoch` saves the weights of the lowest, else the last."""
    train_pairs, val_pairs = (make_labels().train.with_columns(label=pl.lit(label, pl.Float32)) for label in (5.0, 0.0))
    stage = Stage(epochs=4, batch_size=16, warmup_steps=0, learning_rate=1e-3, best_epoch=best_epoch)
    steps = []
    kept = fine_tune(bert, train_pairs, val_pairs, stage, tmp_path / "out", progress=steps.append, precision="fp32")
    assert kept == pytest.approx((_scores(tmp_path / "out", val_pairs) ** 2).mean().item(), rel=1e-4)
    first = steps[6].figures["val_mse"]  # six steps an epoch
    assert kept == pytest.approx(first, rel=1e-4) if best_epoch else kept > 1.1 * first


@pytest.mark.parametrize("best_epoch", [True, False])
def test_training_that_ends_in_nan(best_epoch: bool, bert: Path, tmp_path: Path):
    """Weights that have run away are not saved; the error says where to look."""
    stage = Stage(epochs=2, batch_size=16, warmup_steps=0, learning_rate=1e38, best_epoch=best_epoch)
    with pytest.raises(BadDataError, match="ended in NaN"):
        fine_tune(bert, make_labels().train, make_labels().val, stage, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _scores(folder: Path, pairs: pl.DataFrame) -> torch.Tensor:
    """Score pairs with plain transformers, (pairs,)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sides = pairs["left"].to_list(), pairs["right"].to_list()
    with torch.inference_mode():
        return model(**tokenizer(*sides, padding=True, return_tensors="pt")).logits.squeeze(-1)


def test_bf16_trains_a_standard_fp32_checkpoint(bert: Path, tmp_path: Path):
    """Training in bf16 is close to fp32 and saves fp32 weights."""
    frame, stage = make_labels(), Stage(epochs=1, warmup_steps=0)
    losses = [
        fine_tune(bert, frame.train, frame.val, stage, tmp_path / precision, precision=precision)
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "bf16", dtype="auto").dtype == torch.float32
