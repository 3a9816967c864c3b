"""Run the stages of a recipe, from a base encoder to a checkpoint."""

import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import load_file, save_file

from stsb_batch.models.checkpoint import WEIGHTS
from stsb_batch.refresh.fine_tune import Step, fine_tune
from stsb_batch.refresh.labels import Labels
from stsb_batch.refresh.recipes import Recipe, Stage
from stsb_batch.refresh.silver import silver_pairs

log = logging.getLogger(__name__)
SILVER_PER_VAL_PAIR = 20  # one in so many silver pairs is for validation
Pairs = tuple[pl.DataFrame, pl.DataFrame]  # for training and for validation


def train(
    base: Path,
    labels: Labels,
    recipe: Recipe,
    output: Path,
    *,
    unlabelled: Iterable[str] = (),
    progress: Callable[[Step], None] | None = None,
) -> None:
    """Run a recipe's stages from `base` and save a checkpoint in `output`.

    `unlabelled` texts are added to those of the labels in the silver stage; `progress` is called after each step. The same
    call resumes after a kill: finished stages, and the last state of an unfinished one, are kept next to `output`.
    """
    folders: list[Path] = []

    def run(name: str, start: Path, pairs: Callable[[], Pairs], stage: Stage) -> Path:
        folders.append(output.with_name(f"{output.name}.{name}"))
        if not folders[-1].is_dir():
            log.info("stage %s: making its pairs", name)
            fine_tune(start, *pairs(), stage, folders[-1], name=name, progress=progress)
        return folders[-1]

    start = base
    if recipe.silver:
        texts = {text for column in ("left", "right") for text in labels.train[column]} | set(unlabelled)
        silver = recipe.silver
        start = run("silver", base, lambda: _silver(base, sorted(texts), recipe, silver.seed, progress), silver)
    gold = run("gold", start, lambda: (labels.train, labels.val), recipe.gold)
    if recipe.kept_gold < 1:
        gold = blend(start, gold, recipe.kept_gold, output.with_name(f"{output.name}.blended"))
    gold.rename(output)
    for folder in folders:
        if folder != gold:
            shutil.rmtree(folder)


def _silver(base: Path, texts: list[str], recipe: Recipe, seed: int, progress: Callable[[Step], None] | None) -> Pairs:
    def report(done: int, total: int) -> None:
        if progress:
            progress(Step("silver, texts", done, total, {}))

    count = min(int(recipe.silver_factor * len(texts)), recipe.silver_limit)
    words = int(recipe.words * count)
    pairs = silver_pairs(base, texts, count - words, words=words, seed=seed, progress=report)
    held_out = max(2, count // SILVER_PER_VAL_PAIR)
    return pairs[held_out:], pairs[:held_out]


def blend(first: Path, second: Path, share: float, output: Path) -> Path:
    """Save a checkpoint with the weights of `first` moved by `share` of the way towards those of `second`.

    Interpolating between a model and its fine-tuned version keeps most of what the fine-tuning gained, and loses less of
    what the model could do before (Wortsman et al. 2022).
    """
    before, after = (load_file(folder / WEIGHTS) for folder in (first, second))
    shutil.copytree(second, output, dirs_exist_ok=True)
    mixed = {name: torch.lerp(before[name], tensor, share) for name, tensor in after.items()}
    save_file(mixed, output / WEIGHTS, metadata={"format": "pt"})
    return output
