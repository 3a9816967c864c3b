"""Pairs of word lists from the vocabulary: what a team's own texts never mention, the encoder knows all the same.

The second list is the first with some words replaced by near or by random ones, moved or left out. Nobody would write such
texts, but the encoder's cosine of two of them still says which words mean the same, for words of every field.
"""

import numpy as np

from stsb_batch.refresh.encoder import SentenceEncoder, nearest

NEIGHBOURS = 8  # words that can stand for another
SHORTEST, LONGEST = 3, 15  # words
COMMON = 0.6  # share of words drawn by Zipf's law, by their rank in the vocabulary; the others are drawn evenly
NEAR = 0.6  # share of replaced words that a neighbour stands for


def word_pairs(encoder: SentenceEncoder, count: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Make `count` pairs of word lists; none where the vocabulary has too few words for neighbours."""
    words = whole_words(encoder.tokenizer)[: LONGEST * count]  # no more than the pairs can show
    if len(words) <= NEIGHBOURS:
        return [], []
    neighbours = nearest(encoder.embed(words), NEIGHBOURS)
    left, right = [], []
    for _ in range(count):
        first = _draw(len(words), int(rng.integers(SHORTEST, LONGEST + 1)), rng)
        for side, chosen in ((left, first), (right, _altered(first, neighbours, rng))):
            side.append(" ".join(words[place] for place in chosen))
    return left, right


def whole_words(tokenizer) -> list[str]:
    """Return the words of two letters and more that stand in a vocabulary whole, in its order."""
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    for begins in "▁Ġ":  # where tokens are marked that begin a word, the others are parts
        marked = [token[1:] for token in tokens if token.startswith(begins)]
        tokens = marked or tokens
    return [word for word in dict.fromkeys(tokens) if len(word) > 1 and word.isalpha()]


def _draw(vocabulary: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw places in the vocabulary, (count,): the density of Zipf's law is even over the logarithm of the rank."""
    by_rank = np.exp(rng.uniform(0, np.log(vocabulary), count)).astype(np.int64) - 1
    return np.where(rng.random(count) < COMMON, by_rank, rng.integers(0, vocabulary, count))


def _altered(words: np.ndarray, neighbours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace between none and all of the words; then move them, leave some out, or neither, a third of the time each."""
    size = len(words)
    near = neighbours[words, rng.integers(0, neighbours.shape[1], size)]
    other = np.where(rng.random(size) < NEAR, near, _draw(len(neighbours), size, rng))
    altered = np.where(rng.random(size) < rng.random(), other, words)
    order = rng.integers(3)
    if order == 0:
        return rng.permutation(altered)
    kept = rng.random(size) < rng.uniform(0.5, 1)
    return altered[kept] if order == 1 and kept.any() else altered
