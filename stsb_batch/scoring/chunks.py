"""Token ids of texts from a cache of their space-separated chunks: exact for WordPiece, and no Python object per text.

BERT's cleaning, CJK spacing, NFD, accent stripping, lower-casing, punctuation split and greedy longest match (Devlin et al.
2019) never look across a space, so that a text's ids are those of its chunks one after the other. Only U+0020 counts: BERT
deletes some characters at which `str.split()` would split.
"""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Encoding, Tokenizer

ENCODED_AT_ONCE = 65_536  # new chunks
TEXT_CHUNKS = 1_024  # new chunks that make one text
CACHE_BYTES = 8 << 20  # of chunk text, about half a million chunks; above it the cache starts anew


@dataclass(frozen=True)
class RaggedIds:
    """Text i has `ids[offsets[i]:offsets[i + 1]]`, without special tokens: int32 and int64."""

    ids: np.ndarray
    offsets: np.ndarray


def is_chunk_exact(backend: Tokenizer) -> bool:
    """Say whether a tokeniser is of the class for which chunks are exact: WordPiece as BERT has it."""
    parts = json.loads(backend.to_str())
    kinds = [(parts[name] or {}).get("type") for name in ("model", "normalizer", "pre_tokenizer")]
    added = [token for token in parts["added_tokens"] if not token["special"]]
    return kinds == ["WordPiece", "BertNormalizer", "BertPreTokenizer"] and not any(
        " " in token["content"] or token["lstrip"] or token["rstrip"] or token["single_word"] for token in added
    )


class ChunkEncoder:
    """Encode texts by their chunks. The cache lives as long as the encoder and is bounded."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = Tokenizer.from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True
        self._forget()

    def _forget(self) -> None:
        self._chunks = pa.array([], pa.large_string())
        self._ids, self._offsets = np.empty(0, np.int32), np.zeros(1, np.int64)

    def encode(self, texts: pa.LargeStringArray) -> RaggedIds:
        """Encode texts (texts,), none of them null."""
        split = pc.split_pattern(texts, " ")
        occurring = split.flatten().dictionary_encode()
        if self._chunks.nbytes > CACHE_BYTES:
            self._forget()
        places = pc.index_in(occurring.dictionary, value_set=self._chunks)
        if places.null_count:
            self._learn(occurring.dictionary.filter(places.is_null()))
            places = pc.index_in(occurring.dictionary, value_set=self._chunks)
        place = places.to_numpy()[occurring.indices.to_numpy()]
        starts, sizes = self._offsets[place], self._offsets[place + 1] - self._offsets[place]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        bounds = split.offsets.to_numpy()
        return RaggedIds(self._ids[ranges(starts, sizes)], ends[bounds - bounds[0]])

    def _learn(self, chunks: pa.LargeStringArray) -> None:
        """Encode new chunks, many as one text that is split already: `word_ids` say which chunk a token comes from."""
        ids, sizes = [self._ids], []
        for start in range(0, len(chunks), ENCODED_AT_ONCE):
            words = chunks.slice(start, ENCODED_AT_ONCE).to_pylist()
            texts = [words[first : first + TEXT_CHUNKS] for first in range(0, len(words), TEXT_CHUNKS)]
            for text, found in zip(texts, self._encode(texts), strict=True):
                ids.append(np.array(found.ids, np.int32))
                sizes.append(np.bincount(np.array(found.word_ids, np.int64), minlength=len(text)))
        self._chunks = pa.concat_arrays([self._chunks, chunks])
        self._ids = np.concatenate(ids)
        self._offsets = np.concatenate([self._offsets, self._offsets[-1] + np.cumsum(np.concatenate(sizes))])

    def _encode(self, texts: list[list[str]]) -> list[Encoding]:
        return self._backend.encode_batch(texts, is_pretokenized=True, add_special_tokens=False)


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return `starts[i], starts[i] + 1, ...`, `sizes[i]` numbers of each, as one array."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)
