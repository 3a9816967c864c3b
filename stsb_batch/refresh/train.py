"""Fine-tune a base encoder into a regression cross-encoder with one output neuron."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from stsb_batch.errors import BadDataError, ModelIntegrityError
from stsb_batch.models.checkpoint import load_tokenizer, quiet_transformers, save_checkpoint
from stsb_batch.refresh.labels import Labels
from stsb_batch.refresh.recipes import Recipe, Stage
from stsb_batch.refresh.silver import silver_pairs

log = logging.getLogger(__name__)
SWAPPED = "swapped_"  # columns of a pair the other way round


@dataclass(frozen=True)
class Step:
    """Where training stands: the stage, optimiser steps done and in all, the last figures known (loss, validation loss)."""

    stage: str
    done: int
    total: int
    figures: dict[str, float]


def train(
    base: Path, labels: Labels, recipe: Recipe, output: Path, *, progress: Callable[[Step], None] | None = None
) -> float:
    """Run a recipe's stages from `base` and save a checkpoint in `output`; returns the validation loss of the last stage."""
    if recipe.silver is None:
        return fine_tune(base, labels.train, labels.val, recipe.gold, output, name="gold", progress=progress)
    texts = sorted({text for column in ("left", "right") for text in labels.train[column]})
    pairs = silver_pairs(
        base, texts, min(int(recipe.silver_factor * len(texts)), recipe.silver_limit), seed=recipe.silver.seed
    )
    held_out = max(2, pairs.height // 20)
    silver = output.with_name(f"{output.name}.silver")
    try:
        fine_tune(base, pairs[held_out:], pairs[:held_out], recipe.silver, silver, name="silver", progress=progress)
        return fine_tune(silver, labels.train, labels.val, recipe.gold, output, name="gold", progress=progress)
    finally:
        shutil.rmtree(silver, ignore_errors=True)


def fine_tune(
    base: Path,
    train_pairs: pl.DataFrame,
    val_pairs: pl.DataFrame,
    stage: Stage,
    output: Path,
    *,
    name: str = "gold",
    max_length: int = 512,
    progress: Callable[[Step], None] | None = None,
) -> float:
    """Train `base` on labelled pairs and save the best epoch (by validation loss) as a checkpoint in `output`.

    Frames have `left`, `right` and `label`. Returns the validation loss (MSE) of the epoch that was kept. Raises
    `ModelIntegrityError` for a base model that cannot be loaded and `BadDataError` when training ends in NaN.
    """
    set_seed(stage.seed)
    tokenizer = load_tokenizer(base)
    try:
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(
                base,
                num_labels=1,
                problem_type="regression",
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype="float32",
            )
    except Exception as error:  # safetensors and transformers raise many kinds for a damaged or foreign folder
        raise ModelIntegrityError(
            f"{base}: the base model cannot be loaded ({str(error).splitlines()[0][:200]})."
        ) from error
    max_length = min(max_length, getattr(model.config, "max_position_embeddings", max_length))
    work = output.with_name(f"{output.name}.training")
    trainer = Trainer(
        model=model,
        args=_arguments(stage, work),
        train_dataset=_encode(train_pairs, tokenizer, max_length, swapped=stage.swapped),
        eval_dataset=_encode(val_pairs, tokenizer, max_length),
        data_collator=_Collator(tokenizer),
        callbacks=[_Progress(name, progress)],
    )
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train()
        loss = trainer.state.best_metric
        if loss is None or not np.isfinite(loss):
            raise BadDataError("Training ended in NaN: no epoch has a finite validation loss. Check labels and recipe.")
        save_checkpoint(trainer.model, tokenizer, output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return float(loss)


def _arguments(stage: Stage, work: Path) -> TrainingArguments:
    return TrainingArguments(
        str(work),
        num_train_epochs=stage.epochs,
        per_device_train_batch_size=stage.batch_size,
        per_device_eval_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        weight_decay=stage.weight_decay,
        seed=stage.seed,
        fp16=torch.cuda.is_available(),
        train_sampling_strategy="group_by_length" if stage.length_grouped else "random",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _encode(frame: pl.DataFrame, tokenizer, max_length: int, *, swapped: bool = False) -> Dataset:
    """Tokenise pairs into the columns the model takes, with `swapped` both ways round; padding is left to the collator."""
    left, right = frame["left"].to_list(), frame["right"].to_list()
    encoded = dict(tokenizer(left, right, truncation=True, max_length=max_length))
    if swapped:
        other = tokenizer(right, left, truncation=True, max_length=max_length)
        encoded |= {SWAPPED + name: column for name, column in other.items()}
    return Dataset.from_dict({**encoded, "label": frame["label"].to_numpy()})


class _Collator:
    """Pad pairs to a batch; of pairs that come both ways round take either, by torch's own random numbers."""

    def __init__(self, tokenizer) -> None:
        self._pad = DataCollatorWithPadding(tokenizer)

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        names = [name for name in rows[0] if not name.startswith(SWAPPED)]
        turned = torch.rand(len(rows)).lt(0.5).tolist() if len(names) < len(rows[0]) else [False] * len(rows)
        return self._pad(
            [{name: row[SWAPPED * turn + name if name != "label" else name] for name in names} for row, turn in zip(rows, turned, strict=True)]
        )


class _Progress(TrainerCallback):
    """Pass the Trainer's state on, and each epoch's figures to the log."""

    def __init__(self, stage: str, report: Callable[[Step], None] | None) -> None:
        self._stage = stage
        self._report = report
        self._figures: dict[str, float] = {}

    def on_log(self, args, state, control, logs=None, **_):
        self._figures |= {
            name: float(logs[key]) for key, name in (("loss", "loss"), ("eval_loss", "val_mse")) if key in logs
        }
        if "eval_loss" in logs:
            log.info(
                "%s epoch %.0f of %d: validation loss %.4f",
                self._stage,
                state.epoch,
                args.num_train_epochs,
                float(logs["eval_loss"]),
            )

    def on_step_end(self, args, state, control, **_):
        if self._report:
            self._report(Step(self._stage, state.global_step, state.max_steps, dict(self._figures)))
