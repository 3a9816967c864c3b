"""Lists of whole words: real ones, alike and not."""

import numpy as np
import pytest

from stsb_batch.models.base import find_base_model
from stsb_batch.refresh.encoder import SentenceEncoder
from stsb_batch.refresh.word_pairs import whole_words, word_pairs


def test_word_pairs_are_made_of_whole_words():
    """Lists of 1 to 15 whole words, some pairs alike and others not; the same seed makes the same pairs."""
    encoder = SentenceEncoder(find_base_model("minilm"))
    known = set(whole_words(encoder.tokenizer))
    assert {"guitar", "payment"} <= known
    assert not {"a", "##ing", "[CLS]", "."} & known
    left, right = word_pairs(encoder, 60, np.random.default_rng(1))
    assert (left, right) == word_pairs(encoder, 60, np.random.default_rng(1))
    for text in left + right:
        assert set(text.split()) <= known
        assert 1 <= len(text.split()) <= 15
    cosine = np.einsum("ij,ij->i", encoder.embed(left), encoder.embed(right))
    assert cosine.min() < 0.3
    assert cosine.max() > 0.9


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["[CLS]", "pump", "##ing", "a", "red", "3,0"], ["pump", "red"]),
        (["<s>", "Ġpump", "ing", "Ġa", "Ġred"], ["pump", "red"]),
        (["<s>", "▁pump", "ing", "▁red", "▁"], ["pump", "red"]),
    ],
    ids=["wordpiece", "bytes", "sentencepiece"],
)
def test_whole_words_of_any_vocabulary(tokens: list[str], words: list[str]):
    """Parts of words, special tokens, single letters and numbers are no words."""

    class Vocabulary(list):
        def convert_ids_to_tokens(self, ids: range) -> list[str]:
            return [self[place] for place in ids]

    assert whole_words(Vocabulary(tokens)) == words
