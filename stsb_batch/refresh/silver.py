"""Silver labels: pairs without a label, labelled by the sentence encoder.

The cross-encoder first learns the cosine of the encoder that it starts from (mean-pooled embeddings), on pairs mined from
labelled and unlabelled texts and on word lists, and then the gold labels. This is augmented SBERT (Thakur et al. 2021) in
the other direction: there the cross-encoder labels pairs for the sentence encoder.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.errors import BadDataError
from stsb_batch.refresh.encoder import SentenceEncoder, nearest
from stsb_batch.refresh.word_pairs import word_pairs

NEIGHBOURS = 12  # a mined pair is a text and one of its nearest neighbours
MINED_SHARE = 0.7  # of the pairs of texts; the others are random


def silver_pairs(
    base: Path,
    texts: list[str],
    count: int,
    *,
    words: int = 0,
    seed: int = 42,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:
    """Make `count` pairs of `texts` and `words` pairs of word lists, shuffled, with labels 5 x cosine, at least 0.

    `texts` are distinct; `progress` is called with the number embedded and in all. Returns columns `left`, `right` and
    `label` (Float32). Raises `BadDataError` for fewer than two texts.
    """
    if len(texts) < 2:
        raise BadDataError(f"Silver pairs need at least 2 distinct texts, not {len(texts)}. Use --recipe reference.")
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
    """Return the indices of both texts of each pair, each (count,); no text is paired with itself."""
    texts = len(embeddings)
    left = rng.integers(0, texts, count)
    right = (left + rng.integers(1, texts, count)) % texts
    mined = np.flatnonzero(rng.random(count) < MINED_SHARE)
    neighbours = nearest(embeddings, min(NEIGHBOURS, texts - 1))
    right[mined] = neighbours[left[mined], rng.integers(0, neighbours.shape[1], len(mined))]
    return left, right


def _labelled(left: list[str], right: list[str], of_left: np.ndarray, of_right: np.ndarray) -> pl.DataFrame:
    """Label pairs by the unit-length embeddings of their texts, each (pairs, hidden)."""
    cosine = np.einsum("ij,ij->i", of_left, of_right)
    return pl.DataFrame({"left": left, "right": right, "label": np.clip(5.0 * cosine, 0.0, 5.0).astype(np.float32)})
