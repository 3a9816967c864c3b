"""Silver labels: what the sentence encoder itself thinks of pairs nobody has labelled.

The cross-encoder first learns to imitate the encoder it starts from (the cosine of mean-pooled embeddings), on pairs mined
from labelled and unlabelled texts, and only then sees the gold labels. The idea is augmented SBERT turned round (Thakur et
al. 2021).
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from transformers import AutoModel

from stsb_batch.device import torch_device
from stsb_batch.models.checkpoint import load_tokenizer, quiet_transformers

NEIGHBOURS = 12  # a mined pair joins a text with one of its nearest neighbours
MINED = 0.7  # share of mined pairs; the others are drawn at random
MAX_TOKENS = 128
BATCH_TEXTS = 64


def silver_pairs(base: Path, texts: list[str], count: int, *, seed: int = 42) -> pl.DataFrame:
    """Mine `count` pairs from distinct `texts` and label them 5 x cosine, at least 0: columns left, right, label."""
    embeddings = _embed(base, texts)
    rng = np.random.default_rng(seed)
    left = rng.integers(0, len(texts), count)
    right = (left + rng.integers(1, len(texts), count)) % len(texts)  # random, never the text itself
    mined = np.flatnonzero(rng.random(count) < MINED)
    neighbours = _nearest(embeddings, min(NEIGHBOURS, len(texts) - 1))
    right[mined] = neighbours[left[mined], rng.integers(0, neighbours.shape[1], len(mined))]
    cosine = np.einsum("ij,ij->i", embeddings[left], embeddings[right])
    return pl.DataFrame(
        {
            "left": [texts[row] for row in left],
            "right": [texts[row] for row in right],
            "label": np.clip(5.0 * cosine, 0.0, 5.0).astype(np.float32),
        }
    )


@torch.inference_mode()
def _embed(base: Path, texts: list[str]) -> np.ndarray:
    """Return unit-length mean-pooled embeddings, (texts, hidden) float32."""
    device = torch_device()
    tokenizer = load_tokenizer(base)
    with quiet_transformers():
        encoder = AutoModel.from_pretrained(base, local_files_only=True, use_safetensors=True, dtype="float32")
    encoder = encoder.eval().to(device)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    embeddings = np.empty((len(texts), encoder.config.hidden_size), np.float32)
    for start in range(0, len(texts), BATCH_TEXTS):
        rows = order[start : start + BATCH_TEXTS]
        batch = tokenizer(
            [texts[r] for r in rows], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        batch = batch.to(device)
        hidden = encoder(**batch).last_hidden_state  # (texts, tokens, hidden)
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        embeddings[rows] = torch.nn.functional.normalize(pooled).cpu().numpy()
    return embeddings


def _nearest(embeddings: np.ndarray, count: int, *, chunk: int = 2_048) -> np.ndarray:
    """Return the row numbers of each row's nearest other rows, (texts, count)."""
    nearest = np.empty((len(embeddings), count), np.int64)
    for start in range(0, len(embeddings), chunk):
        similarity = embeddings[start : start + chunk] @ embeddings.T
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = -np.inf
        nearest[start : start + chunk] = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    return nearest
