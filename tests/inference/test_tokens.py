"""Tokens equal the reference tokeniser's (law 8), on the chunk cache and on the reference path."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from stsb_batch.inference import chunks
from stsb_batch.inference.chunks import ChunkEncoder, is_chunk_exact
from stsb_batch.inference.tokens import PairTokenizer, longest_first
from stsb_batch.models.base import find_base_model
from tests.builders import STSB, tokenizer

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


OURS, PLAIN = tokenizer(), tokenizer(fast=False)


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def check_equal(left: list[str], right: list[str], max_length: int = 32) -> None:
    """Ids, token type ids and truncation of both paths are those of transformers."""
    expected = REFERENCE(left, right, truncation="longest_first", max_length=max_length, split_special_tokens=True)
    untruncated = REFERENCE(left, right, split_special_tokens=True)["input_ids"]
    for ours in (tokenizer(max_length), tokenizer(max_length, fast=False)):
        tokens = ours.encode(column(left), column(right))
        bounds = list(zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True))
        assert [tokens.ids[a:b].tolist() for a, b in bounds] == expected["input_ids"]
        assert [tokens.token_type_ids[a:b].tolist() for a, b in bounds] == expected["token_type_ids"]
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
def test_adversarial_texts_have_no_difference(cache_bytes: int):
    """20,000 texts of odd Unicode, with a cache that lasts and with one that is thrown away all the time."""
    encoder, reference = ChunkEncoder(REFERENCE.backend_tokenizer, cache_bytes), plain_reference()
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


def test_threads_share_one_cache():
    """Texts that are encoded in several threads at once, while the cache overflows and starts anew, have the same ids."""
    shared, rng = tokenizer(128, cache_bytes=2_000), np.random.default_rng(0)
    texts = [" ".join(f"{rng.choice(WORDS)} {rng.integers(900)}" for _ in range(4)) for _ in range(4_000)]
    parts = [[pa.array(texts[first + side :: 80], pa.large_string()) for side in (0, 40)] for first in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda part: shared.encode(*part), parts))
    for part, found in zip(parts, together, strict=True):
        expected = tokenizer(128, fast=False).encode(*part)
        assert np.array_equal(found.ids, expected.ids)
        assert np.array_equal(found.offsets, expected.offsets)


def byte_level_bpe() -> Tokenizer:
    """Train a small byte-level BPE with RoBERTa's special tokens; it can spell everything."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    specials, alphabet = ["<s>", "<pad>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(WORDS * 20, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return backend


def unigram() -> Tokenizer:
    """Train a small unigram model with XLM-R's kind of normaliser and special tokens; it lacks most letters."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60,
        special_tokens=["<s>", "</s>", "<unk>"],
        unk_token="<unk>",  # noqa: S106
        show_progress=False,
    )
    backend.train_from_iterator(WORDS * 20, trainer)
    template = {"single": "<s> $A </s>", "pair": "<s> $A </s> </s> $B </s>", "special_tokens": [("<s>", 0), ("</s>", 1)]}
    backend.post_processor = processors.TemplateProcessing(**template)
    return backend


def changed_normaliser(**rules: bool) -> Tokenizer:
    parts = json.loads(plain_reference().to_str())
    parts["normalizer"] |= rules
    return Tokenizer.from_str(json.dumps(parts))


def check_against(backend: Tokenizer, left: list[str], right: list[str], max_length: int, *, fast: bool = True) -> None:
    """Ids, token type ids and truncation are those that the tokeniser gives for the whole texts."""
    ours = PairTokenizer(Tokenizer.from_str(backend.to_str()), max_length=max_length, fast=fast)
    tokens = ours.encode(column(left), column(right))
    whole, cut = (Tokenizer.from_str(backend.to_str()) for _ in range(2))
    for one in (whole, cut):
        one.no_truncation()
        one.no_padding()
        one.encode_special_tokens = True
    cut.enable_truncation(max_length, strategy="longest_first")
    for row, pair in enumerate(zip(left, right, strict=True)):
        place, expected = slice(*tokens.offsets[row : row + 2]), cut.encode(*pair)
        assert tokens.ids[place].tolist() == expected.ids, ascii(pair)[:80]
        assert tokens.token_type_ids[place].tolist() == expected.type_ids
        assert tokens.truncated[row] == (len(whole.encode(*pair).ids) > max_length)


TOKENISERS = {
    "bert": plain_reference,
    "bert, cased": lambda: changed_normaliser(lowercase=False, strip_accents=False),
    "bert, accents": lambda: changed_normaliser(strip_accents=False),
    "bert, CJK words": lambda: changed_normaliser(handle_chinese_chars=False),
    "bert, not cleaned": lambda: changed_normaliser(clean_text=False),
    "bert, added word": lambda: changed("added word"),
    "bert, short words": lambda: changed("short words"),
    "byte-level BPE": byte_level_bpe,
    "unigram": unigram,
}
FILLING = [
    *" x-\u200b\u0301\x00\x07\u2066\ufffd\ue000é中가กİ\u037e",
    "\t\n ",
    "a\u0301",
    "\u200b ",
    "🚲",
    "word ",
    "ab\u200b",
    "-a",
]


@pytest.mark.parametrize("kind", TOKENISERS)
def test_long_texts_have_the_tokens_of_the_whole_text(kind: str):
    """Kind: words lost beyond a limit of characters. Whatever fills a long text up, it has the tokens it has uncut."""
    backend = TOKENISERS[kind]()
    longs = [f"hello{piece * (3_000 // len(piece))}{space}world red" for piece in FILLING for space in ("", " ")]
    longs += [" " * 3_000 + "red", "red" + " " * 3_000, "a" * 50_000 + " world", "a" * 3_000 + "-b c", "[SEP] " * 600]
    check_against(backend, longs, ["blue pump"] * len(longs), 33)
    check_against(backend, ["blue pump"] * len(longs), longs, 32, fast=False)


@pytest.mark.parametrize("kind", ["bert", "byte-level BPE"])
def test_of_two_long_texts_the_longer_keeps_more(kind: str):
    """Where both texts are cut to half, the odd token goes to the one that is longer as a whole."""
    longs = ["word " * 700, "word " * 701, "pump x " * 400]
    for other in longs:
        check_against(TOKENISERS[kind](), longs, [other] * 3, 34)


@pytest.mark.parametrize("kind", TOKENISERS)
def test_other_tokenisers_equal_their_reference(kind: str):
    """Pairs are laid out and cut as each tokeniser does it, with its own special tokens and token type ids."""
    texts = [*adversarial_texts(150, 5), "", "[SEP] </s>", "<s>"]
    check_against(TOKENISERS[kind](), texts, texts[::-1], 24)


def test_unknown_tokens_are_counted():
    """Tokens that stand for what the vocabulary lacks are counted in each pair; byte-level BPE has none."""
    left, right = column(["🚲 🦄x red", "red", "[UNK]"]), column(["🚲", "pump", "unk"])
    for ours in (OURS, PLAIN):
        assert ours.encode(left, right).unknown.tolist() == [3, 0, 0]
    assert PairTokenizer(byte_level_bpe(), max_length=32).encode(left, right).unknown.tolist() == [0, 0, 0]
    assert PairTokenizer(unigram(), max_length=32).encode(left, right).unknown[0] >= 3


@pytest.mark.parametrize("piece", ["word ", "\u200b", "中", "x", "a\u0301", "-!"], ids=ascii)
def test_cell_of_ten_megabytes_takes_little_memory(piece: str):
    """However a text of ten million characters is made up, tokenising it takes less than 150 MiB for a while."""
    text = column(["a" + piece * (10_000_000 // len(piece))])
    OURS.encode(text.slice(0, 0), column([]))
    with Path("/proc/self/clear_refs").open("w") as reset:
        reset.write("5")  # the highest memory so far is forgotten

    def mebibytes(name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) >> 10

    before = mebibytes("VmRSS")
    assert OURS.encode(text, column(["b"])).lengths[0] <= 32
    assert mebibytes("VmHWM") - before < 150


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
