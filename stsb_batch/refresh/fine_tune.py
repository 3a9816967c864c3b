"""Fine-tune a base encoder into a regression cross-encoder with one output neuron."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from stsb_batch.device import has_fast_bf16, torch_device
from stsb_batch.errors import BadDataError
from stsb_batch.models.checkpoint import load_tokenizer, load_weights, save_checkpoint
from stsb_batch.refresh.recipes import Stage

log = logging.getLogger(__name__)
MAX_PAIR_TOKENS = 512  # longer pairs are truncated
SAVE_STEPS = 200  # about a minute on two cores
SWAPPED = "swapped_"  # prefix of the columns of a pair with its sides swapped


@dataclass(frozen=True)
class Step:
    """The progress of training: the stage, optimiser steps done and in all, and the latest figures (`loss`, `val_mse`)."""

    stage: str
    done: int
    total: int
    figures: dict[str, float]


def fine_tune(
    base: Path,
    train_pairs: pl.DataFrame,
    val_pairs: pl.DataFrame,
    stage: Stage,
    output: Path,
    *,
    name: str = "gold",
    precision: str | None = None,
    progress: Callable[[Step], None] | None = None,
) -> float:
    """Train `base` on labelled pairs and save the stage's last or best epoch as a checkpoint in `output`.

    Frames have `left`, `right` and `label`; `precision` is fp32, bf16 or fp16, by default that of `training_precision`;
    `name` is what progress and log call the stage. Returns the validation loss (MSE) of the epoch that was kept. The same
    call resumes after a kill from the last state in `<output>.training`, at most `SAVE_STEPS` steps back. Raises
    `ModelIntegrityError` for a base model that cannot be loaded and `BadDataError` when training ends in NaN.
    """
    set_seed(stage.seed)
    tokenizer = load_tokenizer(base)
    model = load_weights(AutoModelForSequenceClassification, base, num_labels=1, problem_type="regression")
    if not stage.dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    max_length = min(MAX_PAIR_TOKENS, getattr(model.config, "max_position_embeddings", MAX_PAIR_TOKENS))
    work = output.with_name(f"{output.name}.training")
    trainer = Trainer(
        model=model,
        args=_arguments(stage, work, precision or training_precision()),
        train_dataset=_encode(train_pairs, tokenizer, max_length, swapped=stage.swapped or stage.symmetry > 0),
        eval_dataset=_encode(val_pairs, tokenizer, max_length),
        data_collator=Collator(tokenizer, both=stage.symmetry > 0),
        compute_loss_func=symmetric_loss(stage.symmetry) if stage.symmetry > 0 else None,
        callbacks=[_Progress(name, progress)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=_last_state(work))
    validated = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    if not validated or validated[-1]["step"] < trainer.state.global_step:  # killed between the last step and its validation
        validated.append(trainer.evaluate())
    best = trainer.state.best_metric if stage.best_epoch else None
    loss = validated[-1]["eval_loss"] if best is None else best
    if loss is None or not np.isfinite(loss):
        raise BadDataError("Training ended in NaN: the validation loss is not finite. Check labels and recipe.")
    staged = output.with_name(f"{output.name}.saving")
    assert isinstance(trainer.model, PreTrainedModel), "bug: the Trainer has another model"
    save_checkpoint(trainer.model, tokenizer, staged)
    staged.rename(output)
    shutil.rmtree(work)
    return float(loss)


def training_precision() -> str:
    """Return fp16 on CUDA, bf16 on a CPU where it is faster, else fp32."""
    device = torch_device()
    return "fp16" if device == "cuda" else "bf16" if device == "cpu" and has_fast_bf16() else "fp32"


def _last_state(work: Path) -> str | None:
    """Return the folder of the last completely saved state: the Trainer writes its trainer_state.json last."""
    states = [path.parent for path in work.glob("checkpoint-*/trainer_state.json")]
    return str(max(states, key=lambda path: int(path.name.rpartition("-")[2]))) if states else None


def _arguments(stage: Stage, work: Path, precision: str) -> TrainingArguments:
    return TrainingArguments(
        str(work),
        num_train_epochs=stage.epochs,
        per_device_train_batch_size=stage.batch_size,
        per_device_eval_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        weight_decay=stage.weight_decay,
        seed=stage.seed,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        use_cpu=torch_device() == "cpu",
        train_sampling_strategy="group_by_length" if stage.length_grouped else "random",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=stage.best_epoch,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _encode(frame: pl.DataFrame, tokenizer: PreTrainedTokenizerFast, max_length: int, *, swapped: bool = False) -> Dataset:
    """Tokenise pairs into the model's input columns, with `swapped` in both orders; the collator pads them."""
    left, right = frame["left"].to_list(), frame["right"].to_list()
    encoded = dict(tokenizer(left, right, truncation=True, max_length=max_length))
    if swapped:
        other = tokenizer(right, left, truncation=True, max_length=max_length)
        encoded |= {SWAPPED + name: column for name, column in other.items()}
    return Dataset.from_dict({**encoded, "label": frame["label"].to_numpy()})


class Collator:
    """Pad pairs to a batch. Of pairs in both orders, take one at random (torch's generator) or, with `both`, both.

    With `both`, a batch has all pairs in the given order, followed by the same pairs with their sides swapped.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, both: bool = False) -> None:
        self._pad = DataCollatorWithPadding(tokenizer)
        self._both = both

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        names = [name for name in rows[0] if not name.startswith(SWAPPED)]
        given = [{name: row[name] for name in names} for row in rows]
        if len(names) == len(rows[0]):
            return self._pad(given)
        swapped = [{name: row[name if name == "label" else SWAPPED + name] for name in names} for row in rows]
        if self._both:
            return self._pad(given + swapped)
        chosen = torch.rand(len(rows)).lt(0.5).tolist()
        return self._pad([second if swap else first for first, second, swap in zip(given, swapped, chosen, strict=True)])


def symmetric_loss(weight: float) -> Callable[..., torch.Tensor]:
    """Return a loss function for the Trainer and batches with pairs in both orders.

    It is the MSE plus `weight` times the mean squared difference of a pair's two scores.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        scores = outputs.logits.squeeze(-1).float()
        error = torch.nn.functional.mse_loss(scores, labels)
        if not scores.requires_grad:  # validation has each pair in one order
            return error
        first, second = scores.chunk(2)
        return error + weight * torch.nn.functional.mse_loss(first, second)

    return loss


class _Progress(TrainerCallback):
    """Report the Trainer's progress after each step, log each epoch's figures, and save every `SAVE_STEPS` steps."""

    def __init__(self, stage: str, report: Callable[[Step], None] | None) -> None:
        self._stage = stage
        self._report = report
        self._figures: dict[str, float] = {}

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
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

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % SAVE_STEPS == 0:
            control.should_save = True
        if self._report:
            self._report(Step(self._stage, state.global_step, state.max_steps, dict(self._figures)))
