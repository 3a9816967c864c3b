"""Training: small models, real Trainer."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stsb_batch.errors import BadDataError, ModelIntegrityError, UsageError
from stsb_batch.models.base import find_base_model
from stsb_batch.refresh.encoder import SentenceEncoder
from stsb_batch.refresh.fine_tune import Collator, Step, fine_tune, symmetric_loss
from stsb_batch.refresh.labels import Labels
from stsb_batch.refresh.recipes import RECIPES, Recipe, Stage, find_recipe
from stsb_batch.refresh.silver import silver_pairs
from stsb_batch.refresh.train import train
from stsb_batch.refresh.word_pairs import whole_words, word_pairs
from tests.conftest import make_pairs


def labels(rows: int = 96) -> Labels:
    frame = make_pairs(rows + 40).select(left="sentence1", right="sentence2", label="label")
    return Labels(frame[:rows], frame[rows : rows + 20], frame[rows + 20 :])


def test_reference_recipe_is_the_reference():
    """The reference recipe has the published hyper-parameters."""
    gold = find_recipe("reference").gold
    assert (gold.epochs, gold.batch_size, gold.warmup_steps, gold.weight_decay, gold.seed) == (3, 32, 100, 0.01, 42)
    assert find_recipe("reference").silver is None
    with pytest.raises(UsageError, match="Choose one of reference, silver, best"):
        find_recipe("other")


@pytest.mark.parametrize("base", ["bert", "distilbert"])
def test_checkpoint_is_standard_and_training_is_repeatable(base: str, request: pytest.FixtureRequest, tmp_path: Path):
    """Two runs give the same standard checkpoint, which plain transformers loads with one output; the loss is finite."""
    folder, recipe, runs = request.getfixturevalue(base), Recipe("t", gold=Stage(epochs=2, warmup_steps=2)), []
    for name in ("a", "b"):
        steps = []
        train(folder, labels(), recipe, tmp_path / name, progress=steps.append)
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
        labels(),
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
        train(bert, labels(), recipe, tmp_path / f"{kept}")
        weights[kept] = AutoModelForSequenceClassification.from_pretrained(tmp_path / f"{kept}").state_dict()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.0", "0.25", "1.0"]
    assert not torch.equal(weights[0.0]["classifier.weight"], weights[1.0]["classifier.weight"])
    for name, mixed in weights[0.25].items():
        assert torch.allclose(mixed, 0.75 * weights[0.0][name] + 0.25 * weights[1.0][name], atol=1e-6)


def test_word_pairs_are_made_of_whole_words():
    """Lists of 1 to 15 whole words, some pairs alike and others not; the same seed makes the same pairs."""
    encoder = SentenceEncoder(find_base_model("minilm"))
    known = set(whole_words(encoder.tokenizer))
    assert {"guitar", "payment"} <= known
    assert not {"a", "##ing", "[CLS]", "."} & known
    left, right = word_pairs(encoder, 60, np.random.default_rng(1))
    assert (left, right) == word_pairs(encoder, 60, np.random.default_rng(1))
    for text in left + right:
        assert set(text.split()) <= known
        assert 1 <= len(text.split()) <= 15
    cosine = np.einsum("ij,ij->i", encoder.embed(left), encoder.embed(right))
    assert cosine.min() < 0.3
    assert cosine.max() > 0.9


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["[CLS]", "pump", "##ing", "a", "red", "3,0"], ["pump", "red"]),
        (["<s>", "Ġpump", "ing", "Ġa", "Ġred"], ["pump", "red"]),
        (["<s>", "▁pump", "ing", "▁red", "▁"], ["pump", "red"]),
    ],
    ids=["wordpiece", "bytes", "sentencepiece"],
)
def test_whole_words_of_any_vocabulary(tokens: list[str], words: list[str]):
    """Parts of words, special tokens, single letters and numbers are no words."""

    class Vocabulary(list):
        def convert_ids_to_tokens(self, ids: range) -> list[str]:
            return [self[place] for place in ids]

    assert whole_words(Vocabulary(tokens)) == words


def test_silver_labels_follow_meaning():
    """With the real encoder a paraphrase gets a higher silver label than an unrelated text, and no text meets itself."""
    texts = [
        "A man plays the guitar.",
        "Someone is playing a guitar.",
        "The court upheld the fine.",
        "Stock prices fell today.",
    ]
    pairs = silver_pairs(find_base_model("minilm"), texts, 200, seed=1)
    assert (pairs["left"] != pairs["right"]).all()
    assert pairs["label"].is_between(0, 5).all()
    label = {(left, right): value for left, right, value in pairs.rows()}
    assert label[(texts[0], texts[1])] > 3
    assert label[(texts[0], texts[2])] < 1


def test_base_model_that_is_none(tmp_path: Path):
    """A folder whose model cannot be loaded is a model error that names it."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelIntegrityError, match=str(tmp_path)):
        train(tmp_path, labels(), RECIPES["reference"], tmp_path / "out")


def test_killed_training_goes_on_where_it_was(bert: Path, tmp_path: Path):
    """Training that is killed in the gold stage trains no finished stage again, goes on within the epoch."""
    stage = Stage(epochs=3, batch_size=16, warmup_steps=0, swapped=True)
    recipe, steps = Recipe("t", gold=stage, silver=stage, silver_factor=1.0), []

    def killed_late(step: Step) -> None:
        if (step.stage, step.done) == ("gold", 9):  # six steps an epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(bert, labels(), recipe, tmp_path / "out", progress=killed_late)
    train(bert, labels(), recipe, tmp_path / "out", progress=steps.append)
    assert {step.stage for step in steps} == {"gold"}
    assert [step.done for step in steps] == list(range(7, 19))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_half_written_state_is_not_gone_on_from(bert: Path, tmp_path: Path):
    """A state whose writing was cut off is passed over."""
    stage, steps = Stage(epochs=1, batch_size=16, warmup_steps=0), []
    (tmp_path / "out.training/checkpoint-4").mkdir(parents=True)
    train(bert, labels(), Recipe("t", gold=stage), tmp_path / "out", progress=steps.append)
    assert [step.done for step in steps] == list(range(1, 7))


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
    frame, figures = labels(), []
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
    folder, steps, pairs = request.getfixturevalue(base), [], labels(80).train
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
    train_pairs, val_pairs = (labels().train.with_columns(label=pl.lit(label, pl.Float32)) for label in (5.0, 0.0))
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
        fine_tune(bert, labels().train, labels().val, stage, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _scores(folder: Path, pairs: pl.DataFrame) -> torch.Tensor:
    """Score pairs with plain transformers, (pairs,)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sides = pairs["left"].to_list(), pairs["right"].to_list()
    with torch.inference_mode():
        return model(**tokenizer(*sides, padding=True, return_tensors="pt")).logits.squeeze(-1)


def test_unlabelled_texts_join_the_silver_stage(bert: Path, tmp_path: Path):
    """More texts make more silver pairs, so the silver stage takes more steps."""
    stage = Stage(epochs=1, batch_size=16, warmup_steps=0)
    totals = []
    for name, texts in (("with", [f"text number {n}" for n in range(400)]), ("without", [])):
        steps = []
        recipe = Recipe("t", gold=stage, silver=stage, silver_factor=1.0)
        train(bert, labels(), recipe, tmp_path / name, unlabelled=texts, progress=steps.append)
        totals.append(next(step.total for step in steps if step.stage == "silver"))
    assert totals[0] > totals[1] + 20


def test_bf16_trains_a_standard_fp32_checkpoint(bert: Path, tmp_path: Path):
    """Training in bf16 is close to fp32 and saves fp32 weights."""
    frame, stage = labels(), Stage(epochs=1, warmup_steps=0)
    losses = [
        fine_tune(bert, frame.train, frame.val, stage, tmp_path / precision, precision=precision)
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "bf16", dtype="auto").dtype == torch.float32
