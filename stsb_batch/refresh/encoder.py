"""The base encoder as a sentence encoder: embeddings of texts, whose cosine measures how similar the texts are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel

from stsb_batch.device import torch_device
from stsb_batch.models.checkpoint import load_tokenizer, load_weights

MAX_TEXT_TOKENS = 128  # longer texts are truncated
BATCH_TEXTS = 64


class SentenceEncoder:
    """Mean-pooled embeddings by the encoder in a folder, fp32."""

    def __init__(self, base: Path) -> None:
        self.tokenizer = load_tokenizer(base)
        self._device = torch_device()
        self._encoder = load_weights(AutoModel, base).eval().to(self._device)

    @torch.inference_mode()
    def embed(self, texts: list[str], progress: Callable[[int, int], None] = lambda done, total: None) -> np.ndarray:
        """Return unit-length embeddings, (texts, hidden) float32; `progress` is called with the texts done and in all."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        embeddings = np.empty((len(texts), self._encoder.config.hidden_size), np.float32)
        for start in range(0, len(texts), BATCH_TEXTS):
            rows = order[start : start + BATCH_TEXTS]
            batch = self.tokenizer(
                [texts[r] for r in rows], padding=True, truncation=True, max_length=MAX_TEXT_TOKENS, return_tensors="pt"
            ).to(self._device)
            hidden = self._encoder(**batch).last_hidden_state  # (texts, tokens, hidden)
            mask = batch["attention_mask"].unsqueeze(-1)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            embeddings[rows] = torch.nn.functional.normalize(pooled).cpu().numpy()
            progress(min(start + BATCH_TEXTS, len(texts)), len(texts))
        return embeddings


def nearest(embeddings: np.ndarray, count: int, *, chunk: int = 2_048) -> np.ndarray:
    """Return the indices of each row's nearest other rows by dot product, unsorted: (rows, count) int64.

    `embeddings` is (rows, hidden); `chunk` rows are compared with all others at a time.
    """
    found = np.empty((len(embeddings), count), np.int64)
    for start in range(0, len(embeddings), chunk):
        similarity = embeddings[start : start + chunk] @ embeddings.T
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = -np.inf
        found[start : start + chunk] = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    return found
