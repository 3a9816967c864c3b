"""Pairs of word lists from the vocabulary, which teach the encoder's knowledge of words that the labels do not contain.

The second list is the first with some words replaced by similar or random ones, moved or left out. The lists are not
sentences, but the encoder's cosine of two of them reflects which words have similar meanings.
"""

from typing import Any

import numpy as np

from stsb_batch.refresh.encoder import SentenceEncoder, nearest

NEIGHBOURS = 8  # similar words that can replace a word
SHORTEST, LONGEST = 3, 15  # words in a list
ZIPF_SHARE = 0.6  # of words drawn by Zipf's law over their rank in the vocabulary; the others are drawn uniformly
SIMILAR_SHARE = 0.6  # of replaced words that become a neighbour; the others become a random word


def word_pairs(encoder: SentenceEncoder, count: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Make `count` pairs of word lists, as lists of left and right texts; none where the vocabulary is too small."""
    words = whole_words(encoder.tokenizer)[: LONGEST * count]  # as many as the pairs can contain
    if len(words) <= NEIGHBOURS:
        return [], []
    neighbours = nearest(encoder.embed(words), NEIGHBOURS)
    left: list[str] = []
    right: list[str] = []
    for _ in range(count):
        first = _draw(len(words), int(rng.integers(SHORTEST, LONGEST + 1)), rng)
        for side, chosen in ((left, first), (right, _altered(first, neighbours, rng))):
            side.append(" ".join(words[place] for place in chosen))
    return left, right


def whole_words(tokenizer: Any) -> list[str]:
    """Return the words of at least two letters that are single tokens of a tokeniser, in vocabulary order."""
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    for begins in "▁Ġ":  # vocabularies that mark the tokens at the start of a word; the others are parts of words
        marked = [token[1:] for token in tokens if token.startswith(begins)]
        tokens = marked or tokens
    return [word for word in dict.fromkeys(tokens) if len(word) > 1 and word.isalpha()]


def _draw(vocabulary: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw positions in the vocabulary, (count,). Under Zipf's law the logarithm of the rank is uniform."""
    by_rank = np.exp(rng.uniform(0, np.log(vocabulary), count)).astype(np.int64) - 1
    return np.where(rng.random(count) < ZIPF_SHARE, by_rank, rng.integers(0, vocabulary, count))


def _altered(words: np.ndarray, neighbours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace a random share of the words; then, with a third of the probability each, shuffle, drop some, or neither."""
    size = len(words)
    near = neighbours[words, rng.integers(0, neighbours.shape[1], size)]
    other = np.where(rng.random(size) < SIMILAR_SHARE, near, _draw(len(neighbours), size, rng))
    altered = np.where(rng.random(size) < rng.random(), other, words)
    order = rng.integers(3)
    if order == 0:
        return rng.permutation(altered)
    kept = rng.random(size) < rng.uniform(0.5, 1)
    return altered[kept] if order == 1 and kept.any() else altered
