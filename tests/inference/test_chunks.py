"""The chunk cache: the ids of texts are those of their chunks, however small the cache is."""

import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from stsb_batch.inference.chunks import ChunkEncoder, is_chunk_exact
from stsb_batch.models.base import find_base_model
from stsb_batch.models.checkpoint import load_tokenizer
from tests.builders import make_texts

ODD = ["", " ", "a  b", "[SEP] red", "Ünïcödé 火车 🚲", "x" * 300, "don't-stop", "e\u0301\u200b f"]


@pytest.fixture(scope="module")
def backend() -> Tokenizer:
    """MiniLM's tokeniser, as the chunk cache is compared with it."""
    found = Tokenizer.from_str(load_tokenizer(find_base_model("minilm")).backend_tokenizer.to_str())
    found.no_truncation()
    found.no_padding()
    found.encode_special_tokens = True
    return found


@pytest.mark.parametrize("cache_bytes", [8 << 20, 200])
def test_ids_are_those_of_the_tokeniser(cache_bytes: int, backend: Tokenizer):
    """Also for odd texts, and with a cache that is thrown away all the time."""
    encoder = ChunkEncoder(backend, cache_bytes)
    for seed in range(3):
        texts = make_texts(50, seed) + ODD
        found = encoder.encode(pa.array(texts, pa.large_string()))
        ids = [found.ids[a:b].tolist() for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]
        assert ids == [backend.encode(text, add_special_tokens=False).ids for text in texts]


def test_simplified_texts_keep_their_ids(backend: Tokenizer):
    """What is deleted is gone, one space is left between words, and the ids stay."""
    text = " red\u0301  \x07pump " + "x" * 300
    simplified = ChunkEncoder(backend).simplify(text, 1_000)
    assert "  " not in simplified
    assert len(simplified) < len(text)
    ids = [backend.encode(each, add_special_tokens=False).ids for each in (text, simplified)]
    assert ids[0] == ids[1]


def test_only_bert_s_word_piece_is_exact(backend: Tokenizer):
    """The cache is for the class of tokenisers that never look across a space."""
    assert is_chunk_exact(backend)
    assert not is_chunk_exact(Tokenizer.from_str(backend.to_str().replace("BertPreTokenizer", "WhitespaceSplit")))
