"""Silver labels: what the sentence encoder itself thinks of pairs nobody has labelled.

The cross-encoder first learns to imitate the encoder it starts from (the cosine of mean-pooled embeddings), on pairs mined
from labelled and unlabelled texts, as they are and with other words in them, and only then sees the gold labels. The idea
is augmented SBERT turned round (Thakur et al. 2021).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.refresh.encoder import SentenceEncoder, nearest
from stsb_batch.refresh.rewording import reword, whole_words

NEIGHBOURS = 12  # a mined pair joins a text with one of its nearest neighbours
MINED = 0.7  # share of mined pairs among those of texts; the others are drawn at random


def silver_pairs(
    base: Path,
    texts: list[str],
    count: int,
    *,
    reworded: float = 0.0,
    seed: int = 42,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> pl.DataFrame:
    """Make `count` pairs of distinct `texts`, in any order, labelled 5 x cosine, at least 0.

    A share of `reworded` has other words in it. `progress` hears what is embedded, how much of it is done and how much there
    is. Columns left, right, label.
    """
    encoder, rng = SentenceEncoder(base), np.random.default_rng(seed)
    embeddings = encoder.embed(texts, partial(progress, "texts"))
    first, second = _mine(embeddings, count, rng)
    left, right = [texts[row] for row in first], [texts[row] for row in second]
    cosine = np.einsum("ij,ij->i", embeddings[first], embeddings[second])
    words = whole_words(encoder.tokenizer)
    rows = np.flatnonzero(rng.random(count) < reworded) if words else ()
    if len(rows):
        for row in rows:
            left[row], right[row] = reword(left[row], right[row], words, rng)
        altered = encoder.embed([side[row] for side in (left, right) for row in rows], partial(progress, "reworded texts"))
        cosine[rows] = np.einsum("ij,ij->i", *np.split(altered, 2))
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
