"""Texts with other words in them: what a team's own texts never mention, the encoder knows all the same.

A few words of a pair make room for others of the encoder's vocabulary, the same word for the same one on both sides. What
was alike stays alike, mostly; how much, the encoder says. Such sentences mean little, but they have the shape of real ones
and bring in words of every field.
"""

import re

import numpy as np

WORD = re.compile(r"[^\W\d_]{2,}")
REPLACED = 0.3  # share of a pair's words
COMMON = 0.6  # share of new words drawn by Zipf's law, by their rank in the vocabulary; the others are drawn evenly


def reword(left: str, right: str, words: list[str], rng: np.random.Generator) -> tuple[str, str]:
    """Replace some of a pair's words by any of `words`."""
    known = sorted({word.lower() for text in (left, right) for word in WORD.findall(text)})
    chosen = rng.random(len(known)) < REPLACED
    places = _draw(len(words), len(known), rng)
    new = {word: words[place] for word, place, replaced in zip(known, places, chosen, strict=True) if replaced}
    left, right = (WORD.sub(lambda word: new.get(word[0].lower(), word[0]), text) for text in (left, right))
    return left, right


def _draw(vocabulary: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw places in the vocabulary, (count,): the density of Zipf's law is even over the logarithm of the rank."""
    by_rank = np.exp(rng.uniform(0, np.log(vocabulary), count)).astype(np.int64) - 1
    return np.where(rng.random(count) < COMMON, by_rank, rng.integers(0, vocabulary, count))


def whole_words(tokenizer) -> list[str]:
    """Return the words of two letters and more that stand in a vocabulary whole, in its order."""
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    for begins in "▁Ġ":  # where tokens are marked that begin a word, the others are parts
        marked = [token[1:] for token in tokens if token.startswith(begins)]
        tokens = marked or tokens
    return [word for word in dict.fromkeys(tokens) if len(word) > 1 and word.isalpha()]
