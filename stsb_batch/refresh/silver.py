"""Silver labels: what the sentence encoder itself thinks of pairs nobody has labelled.

The cross-encoder first learns to imitate the encoder it starts from (the cosine of mean-pooled embeddings), on pairs mined
from labelled and unlabelled texts, as they are and with other words in them, and only then sees the gold labels. The idea
is augmented SBERT turned round (Thakur et al. 2021).
"""

from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.refresh.encoder import SentenceEncoder, nearest
from stsb_batch.refresh.rewording import reword, whole_words

NEIGHBOURS = 12  # a mined pair joins a text with one of its nearest neighbours
MINED = 0.7  # share of mined pairs among those of texts; the others are drawn at random


def silver_pairs(base: Path, texts: list[str], count: int, *, reworded: float = 0.0, seed: int = 42) -> pl.DataFrame:
    """Make `count` pairs of distinct `texts`, in any order, labelled 5 x cosine, at least 0.

    A share of `reworded` has other words in it. Columns left, right, label.
    """
    encoder, rng = SentenceEncoder(base), np.random.default_rng(seed)
    embeddings = encoder.embed(texts)
    first, second = _mine(embeddings, count, rng)
    pairs = [(texts[left], texts[right]) for left, right in zip(first, second, strict=True)]
    cosine = _cosine(embeddings[first], embeddings[second])
    words = whole_words(encoder.tokenizer)
    rows = np.flatnonzero(rng.random(count) < reworded) if words else ()
    if len(rows):
        altered = reword([pairs[row] for row in rows], words, rng)
        cosine[rows] = _cosine(*(encoder.embed(list(side)) for side in zip(*altered, strict=True)))
        for row, pair in zip(rows, altered, strict=True):
            pairs[row] = pair
    left, right = zip(*pairs, strict=True)
    label = np.clip(5.0 * cosine, 0.0, 5.0).astype(np.float32)
    return pl.DataFrame({"left": left, "right": right, "label": label}).sample(fraction=1.0, shuffle=True, seed=seed)


def _mine(embeddings: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of both texts of each pair, (count,) both; no text meets itself."""
    texts = len(embeddings)
    left = rng.integers(0, texts, count)
    right = (left + rng.integers(1, texts, count)) % texts
    mined = np.flatnonzero(rng.random(count) < MINED)
    neighbours = nearest(embeddings, min(NEIGHBOURS, texts - 1))
    right[mined] = neighbours[left[mined], rng.integers(0, neighbours.shape[1], len(mined))]
    return left, right


def _cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the cosine of unit-length embeddings row by row, (pairs, hidden) both -> (pairs,)."""
    return np.einsum("ij,ij->i", left, right)
