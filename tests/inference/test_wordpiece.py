"""Our own WordPiece gives the ids of `tokenizers`, whatever the vocabulary."""

import json
import string

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from stsb_batch.inference.chunks import ChunkEncoder
from stsb_batch.inference.wordpiece import AsciiWordPiece, is_printable

PIECE = st.text("abcAB1", min_size=1, max_size=5)
CHUNK = st.one_of(st.text("abcAB1", min_size=1, max_size=14), st.text("abA1-#.[]", min_size=1, max_size=10))


def word_piece(tokens: list[str], *, lowercase: bool = True, longest: int = 100) -> Tokenizer:
    """Return a BERT tokeniser with these tokens behind the unknown one."""
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(["[UNK]", *tokens]))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=longest))  # noqa: S106
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def check(backend: Tokenizer, chunks: list[str]) -> None:
    """Each chunk's ids are those that the tokeniser gives it, by ourselves and through the cache."""
    column = pa.array(chunks, pa.large_string())
    assert all(is_printable(column).to_pylist())
    expected = [backend.encode(chunk).ids for chunk in chunks]
    for found in (AsciiWordPiece(json.loads(backend.to_str())).encode(column), ChunkEncoder(backend).encode(column)):
        bounds = zip(found.offsets, found.offsets[1:], strict=False)
        assert [found.ids[begin:end].tolist() for begin, end in bounds] == expected


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(PIECE, PIECE.map("##{}".format), st.sampled_from(["-", ".", "[", "##", "#"])), max_size=40),
    st.lists(CHUNK, min_size=1, max_size=30),
    st.booleans(),
    st.sampled_from([3, 8, 100]),
)
def test_ids_are_those_of_the_tokeniser(tokens: list[str], chunks: list[str], lowercase: bool, longest: int):
    """Also with vocabularies in which many words cannot be cut, or only up to somewhere in their middle."""
    check(word_piece(tokens, lowercase=lowercase, longest=longest), chunks)


def test_vocabulary_that_is_nearly_empty():
    """With the unknown token alone every word is unknown, once for each word of a chunk."""
    check(word_piece([]), ["a", "a-b", string.punctuation, "x" * 300])


@pytest.mark.parametrize("text", ["", " ", "a b", "é", "a\t", "\x7f", "日"])
def test_what_is_not_printable_ascii_is_left_to_the_tokeniser(text: str):
    """Spaces, control characters and everything beyond ASCII are not ours."""
    assert is_printable(pa.array([text], pa.large_string())).to_pylist() == [False]


def test_vocabulary_without_unknown_token_is_left_to_the_tokeniser():
    """There `tokenizers` raises for a word that it cannot cut, and so does the cache."""
    backend = Tokenizer(models.WordPiece({"a": 0, "##b": 1}, unk_token="[UNK]"))  # noqa: S106
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    encoder = ChunkEncoder(backend)
    assert encoder.encode(pa.array(["ab a"], pa.large_string())).ids.tolist() == [0, 1, 0]
    with pytest.raises(Exception, match="UNK"):
        encoder.encode(pa.array(["c"], pa.large_string()))
