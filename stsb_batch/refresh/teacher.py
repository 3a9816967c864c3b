"""A fine-tuned model and the encoder it came from as one teacher: labels for pairs that nobody has labelled.

Self-distillation (Furlanello et al. 2018): a second student of the same size learns from the first one's scores. The
encoder's cosine errs in other places than they do, so the mixture of both is better than the first student, and so is who
learns from it.
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForSequenceClassification

from stsb_batch.device import torch_device
from stsb_batch.models.checkpoint import load_tokenizer, quiet_transformers

COSINE = 0.3  # share of the encoder's label in the teacher's
MAX_TOKENS = 256
BATCH_PAIRS = 64


def taught(pairs: pl.DataFrame, model: Path) -> pl.DataFrame:
    """Mix silver labels with the scores of the fine-tuned model in a folder."""
    scores = _scores(model, pairs["left"].to_list(), pairs["right"].to_list())
    label = (1 - COSINE) * scores + COSINE * pairs["label"].to_numpy()
    return pairs.with_columns(label=pl.Series(np.clip(label, 0.0, 5.0).astype(np.float32)))


@torch.inference_mode()
def _scores(folder: Path, left: list[str], right: list[str]) -> np.ndarray:
    """Score pairs by a checkpoint as transformers does, (pairs,) float32."""
    device, tokenizer = torch_device(), load_tokenizer(folder)
    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype="float32"
        )
    model = model.eval().to(device)
    order = sorted(range(len(left)), key=lambda row: len(left[row]) + len(right[row]))
    scores = np.empty(len(left), np.float32)
    for start in range(0, len(order), BATCH_PAIRS):
        rows = order[start : start + BATCH_PAIRS]
        batch = tokenizer(
            [left[r] for r in rows],
            [right[r] for r in rows],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        ).to(device)
        scores[rows] = model(**batch).logits[:, 0].cpu().numpy()
    return scores
