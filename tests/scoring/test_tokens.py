"""Tokens equal the reference tokeniser's (law 8)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from stsb_batch.models.base import find_base_model
from stsb_batch.models.checkpoint import load_tokenizer
from stsb_batch.scoring.tokens import PairTokenizer

REFERENCE = AutoTokenizer.from_pretrained(find_base_model("minilm"))


def tokenizer(max_length: int = 32) -> PairTokenizer:
    return PairTokenizer(load_tokenizer(find_base_model("minilm")).backend_tokenizer, pad_id=0, max_length=max_length)


OURS = tokenizer()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=80), st.text(max_size=80)), min_size=1, max_size=8))
def test_ids_equal_the_reference(pairs: list[tuple[str, str]]):
    """Ids, segments and truncation are those of transformers, for any Unicode text."""
    left, right = map(list, zip(*pairs, strict=True))
    tokens = OURS.encode(left, right)
    expected = REFERENCE(left, right, truncation="longest_first", max_length=32, split_special_tokens=True)
    untruncated = REFERENCE(left, right, split_special_tokens=True)["input_ids"]
    for row in range(len(pairs)):
        part = slice(tokens.offsets[row], tokens.offsets[row + 1])
        assert tokens.ids[part].tolist() == expected["input_ids"][row]
        assert tokens.segments[part].tolist() == expected["token_type_ids"][row]
        assert tokens.truncated[row] == (len(untruncated[row]) > 32)


def test_special_token_text_stays_text():
    """A text that reads [SEP] does not become a separator."""
    tokens = OURS.encode(["[SEP] [CLS]"], ["[PAD]"])
    assert (tokens.ids == REFERENCE.sep_token_id).sum() == 2
    assert (tokens.ids == REFERENCE.cls_token_id).sum() == 1


def test_no_pairs_no_tokens():
    """An empty list gives empty arrays."""
    tokens = OURS.encode([], [])
    assert len(tokens.ids) == len(tokens.lengths) == 0


@pytest.mark.parametrize(("words", "is_truncated"), [(28, False), (29, False), (30, True)])
def test_truncation_begins_above_the_limit(words: int, is_truncated: bool):
    """A pair of exactly the limit is not marked as truncated (32 tokens: words and three special tokens)."""
    tokens = OURS.encode(["pump " * (words - 1)], ["ticket"])
    assert tokens.truncated.tolist() == [is_truncated]
    assert np.diff(tokens.offsets).tolist() == [min(words + 3, 32)]
