"""Silver labels: what the sentence encoder itself thinks of pairs nobody has labelled.

The cross-encoder first learns to imitate the encoder it starts from (the cosine of mean-pooled embeddings), on pairs mined
from labelled and unlabelled texts and on word lists, and only then sees the gold labels. The idea is augmented SBERT turned
round (Thakur et al. 2021).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.errors import BadDataError
from stsb_batch.refresh.encoder import SentenceEncoder, nearest
from stsb_batch.refresh.word_pairs import word_pairs

NEIGHBOURS = 12  # a mined pair joins a text with one of its nearest neighbours
MINED = 0.7  # share of mined pairs among those of texts; the others are drawn at random


def silver_pairs(
    base: Path,
    texts: list[str],
    count: int,
    *,
    words: int = 0,
    seed: int = 42,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:
    """Make `count` pairs of distinct `texts` and `words` pairs of word lists, in any order, labelled 5 x cosine, at least 0.

    `progress` hears how many of `texts` are embedded. Columns left, right, label. Raises `BadDataError` for a single text.
    """
    if len(texts) < 2:
        raise BadDataError(f"{len(texts)} distinct text is too little for silver pairs. Take the recipe reference.")
    encoder, rng = SentenceEncoder(base), np.random.default_rng(seed)
    embeddings = encoder.embed(texts, progress)
    first, second = _mine(embeddings, count, rng)
    left, right = [texts[row] for row in first], [texts[row] for row in second]
    pairs = _labelled(left, right, embeddings[first], embeddings[second])
    left, right = word_pairs(encoder, words, rng)
    if left:
        pairs = pl.concat([pairs, _labelled(left, right, encoder.embed(left), encoder.embed(right))])
    return pairs.sample(fraction=1.0, shuffle=True, seed=seed)


def _mine(embeddings: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of both texts of each pair, (count,) both; no text meets itself."""
    texts = len(embeddings)
    left = rng.integers(0, texts, count)
    right = (left + rng.integers(1, texts, count)) % texts
    mined = np.flatnonzero(rng.random(count) < MINED)
    neighbours = nearest(embeddings, min(NEIGHBOURS, texts - 1))
    right[mined] = neighbours[left[mined], rng.integers(0, neighbours.shape[1], len(mined))]
    return left, right


def _labelled(left: list[str], right: list[str], of_left: np.ndarray, of_right: np.ndarray) -> pl.DataFrame:
    """Label pairs from the unit-length embeddings of their texts, (pairs, hidden) both."""
    cosine = np.einsum("ij,ij->i", of_left, of_right)
    return pl.DataFrame({"left": left, "right": right, "label": np.clip(5.0 * cosine, 0.0, 5.0).astype(np.float32)})
