"""Tokens equal the reference tokeniser's (law 8), on the chunk cache and on the reference path."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from stsb_batch.models.base import find_base_model
from stsb_batch.models.checkpoint import load_tokenizer
from stsb_batch.scoring import chunks
from stsb_batch.scoring.chunks import ChunkEncoder, is_chunk_exact
from stsb_batch.scoring.tokens import PairTokenizer, longest_first
from tests.conftest import STSB

REFERENCE = AutoTokenizer.from_pretrained(find_base_model("minilm"))
# What BERT's cleaning, spacing, stripping and splitting treat in their own way, beside plain words
ODD = [
    *"\x00\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x7f\x85\xa0\xad\u1680\u180e\u2000\u2009\u200b\u200d\u2028\u2029\u202e\u202f\u205f",
    *"\u3000\ufeff\ufffd\ue000\u0301\u0327\u1100\uac00\u4e2d\u6587\U00020000\U0001f600\U0001f468\U000e0041\u0130\u0131",
    *"ßſﬁǅŒİéÅåÃçñøΣσςЖжאبपคกࠀ",
    *"[]##_-—'\u2019\"«»…!?.,;:/\\|@$€%^&*()+=~`<>{}",
    *(
        "[SEP]",
        "[CLS]",
        "[PAD]",
        "[MASK]",
        "[UNK]",
        "##ing",
        "</s>",
        "<pad>",
        "e\u0301",
        "👩‍👩‍👧",
        "x" * 101,
        "a" * 99 + "\u0301",
    ),
]
WORDS = ["pump", "Pumps", "unbelievably", "CAFÉ", "naïve", "12.5kg", "3,000", "don't", "e-mail", "München", "O'Neill", "x"]


@lru_cache
def tokenizer(max_length: int = 32, *, fast: bool = True) -> PairTokenizer:
    backend = load_tokenizer(find_base_model("minilm")).backend_tokenizer
    return PairTokenizer(Tokenizer.from_str(backend.to_str()), max_length=max_length, fast=fast)


OURS, PLAIN = tokenizer(), tokenizer(fast=False)


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def check_equal(left: list[str], right: list[str], max_length: int = 32) -> None:
    """Ids, segments and truncation of both paths are those of transformers."""
    expected = REFERENCE(left, right, truncation="longest_first", max_length=max_length, split_special_tokens=True)
    untruncated = REFERENCE(left, right, split_special_tokens=True)["input_ids"]
    for ours in (tokenizer(max_length), tokenizer(max_length, fast=False)):
        tokens = ours.encode(column(left), column(right))
        bounds = list(zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True))
        assert [tokens.ids[a:b].tolist() for a, b in bounds] == expected["input_ids"]
        assert [tokens.segments[a:b].tolist() for a, b in bounds] == expected["token_type_ids"]
        assert tokens.truncated.tolist() == [len(ids) > max_length for ids in untruncated]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=80), st.text(max_size=80)), min_size=1, max_size=8))
def test_ids_equal_the_reference(pairs: list[tuple[str, str]]):
    """Any Unicode text."""
    check_equal(*map(list, zip(*pairs, strict=True)))


def test_chunks_are_taken_for_bert_only():
    """WordPiece with BERT's normaliser takes the cache; another model or normaliser takes the reference path."""
    assert OURS.fast
    assert not PLAIN.fast
    backend = REFERENCE.backend_tokenizer
    for change in ('"type":"WordPiece"', '"type":"BertNormalizer"', '"type":"BertPreTokenizer"'):
        assert change in backend.to_str().replace(" ", "").replace("\n", "")
    other = Tokenizer.from_str(backend.to_str())
    other.normalizer = None
    assert not is_chunk_exact(other)
    other = Tokenizer.from_str(backend.to_str())
    other.add_tokens(["two words"])
    assert not is_chunk_exact(other)


def adversarial_texts(count: int, seed: int) -> list[str]:
    """Join words, odd characters and runs of spaces at random."""
    rng = np.random.default_rng(seed)
    pieces = np.array(WORDS * 4 + ODD + [" ", "  ", " "] * 25, object)
    sizes = rng.integers(0, 24, count)
    flat = pieces[rng.integers(0, len(pieces), sizes.sum())]
    ends = np.cumsum(sizes)
    return ["".join(flat[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def differences(texts: list[str], encoder: ChunkEncoder, reference: Tokenizer) -> int:
    """Count the texts whose ids are not the reference's."""
    ours, wrong = encoder.encode(column(texts)), 0
    for row, encoding in enumerate(reference.encode_batch_fast(texts, add_special_tokens=False)):
        wrong += ours.ids[ours.offsets[row] : ours.offsets[row + 1]].tolist() != encoding.ids
    return wrong


def plain_reference() -> Tokenizer:
    reference = Tokenizer.from_str(REFERENCE.backend_tokenizer.to_str())
    reference.no_truncation()
    reference.no_padding()
    reference.encode_special_tokens = True
    return reference


@pytest.mark.parametrize("cache_bytes", [chunks.CACHE_BYTES, 1_000])
def test_adversarial_texts_have_no_difference(cache_bytes: int, monkeypatch: pytest.MonkeyPatch):
    """20,000 texts of odd Unicode, with a cache that lasts and with one that is thrown away all the time."""
    monkeypatch.setattr(chunks, "CACHE_BYTES", cache_bytes)
    encoder, reference = ChunkEncoder(REFERENCE.backend_tokenizer), plain_reference()
    for seed in range(4):
        assert differences(adversarial_texts(5_000, seed), encoder, reference) == 0


def changed(change: str) -> Tokenizer:
    """Return the reference tokeniser with one rule changed, on which whole words of the vocabulary depend."""
    parts = json.loads(plain_reference().to_str())
    if change == "cased":
        parts["normalizer"]["lowercase"] = False
    if change == "short words":
        parts["model"]["max_input_chars_per_word"] = 3
    backend = Tokenizer.from_str(json.dumps(parts))
    backend.encode_special_tokens = True
    if change == "added word":
        backend.add_tokens(["ump"])
    return backend


@pytest.mark.parametrize("change", ["cased", "short words", "added word"])
def test_whole_words_follow_the_rules_of_their_tokeniser(change: str):
    """Words of the vocabulary are looked up only where the tokeniser itself would end there."""
    backend = changed(change)
    assert backend.encode("Pump it").ids != plain_reference().encode("Pump it").ids
    encoder = ChunkEncoder(backend)
    assert differences([*adversarial_texts(2_000, 7), "pump Pump PUMP pump-pumps, bump"], encoder, backend) == 0


@pytest.mark.slow
def test_two_hundred_thousand_texts_have_no_difference(capsys: pytest.CaptureFixture):
    """220,000 generated texts and the texts of the STS benchmark, where it is at hand."""
    import polars as pl

    encoder, reference, count = ChunkEncoder(REFERENCE.backend_tokenizer), plain_reference(), 0
    real = [pl.read_parquet(path) for path in sorted(STSB.glob("*.parquet"))]
    batches = [frame[name].to_list() for frame in real for name in ("sentence1", "sentence2")]
    for texts in [*batches, *(adversarial_texts(20_000, 100 + seed) for seed in range(11))]:
        assert differences(texts, encoder, reference) == 0
        count += len(texts)
    with capsys.disabled():
        print(f"\n{count:,} texts tokenised twice, 0 differences")


@pytest.mark.parametrize("max_length", [8, 9, 16, 33])
def test_truncation_is_that_of_the_reference(max_length: int):
    """Texts of many lengths on either side are cut where the reference cuts them."""
    texts = [" ".join(["pump"] * words) for words in (0, 1, 2, 3, 5, 6, 7, 13, 14, 15, 16, 30, 31, 40)]
    check_equal([a for a in texts for _ in texts], texts * len(texts), max_length)


def test_longest_first_keeps_the_limit():
    """Kept tokens never exceed the limit or the text, and nothing is cut that fits."""
    left, right = (grid.ravel() for grid in np.meshgrid(np.arange(40), np.arange(40)))
    a, b = longest_first(left, right, 29)
    assert (a <= left).all()
    assert (b <= right).all()
    assert np.array_equal(a + b, np.minimum(left + right, 29))


def test_index_chooses_texts():
    """Pairs are made from distinct texts by index."""
    chosen = OURS.encode(column(["red", "blue pump"]), column(["a", "b c"]), np.array([1, 1, 0]), np.array([0, 1, 1]))
    spelled = OURS.encode(column(["blue pump", "blue pump", "red"]), column(["a", "b c", "b c"]))
    assert np.array_equal(chosen.ids, spelled.ids)
    assert np.array_equal(chosen.offsets, spelled.offsets)


def test_threads_share_one_cache(monkeypatch: pytest.MonkeyPatch):
    """Texts that are encoded in several threads at once, while the cache overflows and starts anew, have the same ids."""
    monkeypatch.setattr("stsb_batch.scoring.chunks.CACHE_BYTES", 2_000)
    shared, rng = tokenizer(128), np.random.default_rng(0)
    texts = [" ".join(f"{rng.choice(WORDS)} {rng.integers(900)}" for _ in range(4)) for _ in range(4_000)]
    parts = [[pa.array(texts[first + side :: 80], pa.large_string()) for side in (0, 40)] for first in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda part: shared.encode(*part), parts))
    for part, found in zip(parts, together, strict=True):
        expected = tokenizer(128, fast=False).encode(*part)
        assert np.array_equal(found.ids, expected.ids)
        assert np.array_equal(found.offsets, expected.offsets)


def test_special_token_text_stays_text():
    """A text that reads [SEP] does not become a separator."""
    tokens = OURS.encode(column(["[SEP] [CLS]"]), column(["[PAD]"]))
    assert (tokens.ids == REFERENCE.sep_token_id).sum() == 2
    assert (tokens.ids == REFERENCE.cls_token_id).sum() == 1


@pytest.mark.parametrize("ours", [OURS, PLAIN], ids=["chunks", "reference"])
def test_no_pairs_no_tokens(ours: PairTokenizer):
    """An empty list gives empty arrays."""
    tokens = ours.encode(column([]), column([]))
    assert len(tokens.ids) == len(tokens.lengths) == 0


@pytest.mark.parametrize(("words", "is_truncated"), [(28, False), (29, False), (30, True)])
def test_truncation_begins_above_the_limit(words: int, is_truncated: bool):
    """A pair of exactly the limit is not marked as truncated (32 tokens: words and three special tokens)."""
    tokens = OURS.encode(column(["pump " * (words - 1)]), column(["ticket"]))
    assert tokens.truncated.tolist() == [is_truncated]
    assert np.diff(tokens.offsets).tolist() == [min(words + 3, 32)]
