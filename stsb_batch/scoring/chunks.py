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
from tokenizers import Tokenizer

ENCODED_AT_ONCE = 65_536  # new chunks
TEXT_CHUNKS = 1_024  # new chunks that make one text
PUNCTUATION = r"([!-/:-@\[-`{-~])"  # what BERT's pre-tokeniser takes for it in ASCII
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
    added = _added_words(parts)
    return kinds == ["WordPiece", "BertNormalizer", "BertPreTokenizer"] and not any(
        " " in token["content"] or token["lstrip"] or token["rstrip"] or token["single_word"] for token in added
    )


def _added_words(parts: dict) -> list[dict]:
    """Return the tokens that were added to the vocabulary and are not special: looked for before words are split."""
    return [token for token in parts["added_tokens"] if not token["special"]]


class ChunkEncoder:
    """Encode texts by their chunks. The cache lives as long as the encoder and is bounded."""

    def __init__(self, backend: Tokenizer) -> None:
        serialised = backend.to_str()
        self._backend = Tokenizer.from_str(serialised)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True
        self._whole_words = _WholeWords(json.loads(serialised))
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
        """Encode new chunks: those of whole words by the vocabulary alone, the others by the tokeniser."""
        easy, by_words = self._whole_words.encode(chunks)
        hard = chunks.filter(pc.invert(easy))
        for learned, found in ((chunks.filter(easy), by_words), (hard, self._encode(hard))):
            self._chunks = pa.concat_arrays([self._chunks, learned])
            self._ids = np.concatenate([self._ids, found.ids])
            self._offsets = np.concatenate([self._offsets, self._offsets[-1] + found.offsets[1:]])

    def _encode(self, chunks: pa.LargeStringArray) -> RaggedIds:
        """Encode many chunks as one text that is split already: `word_ids` say which chunk a token comes from."""
        ids, sizes = [np.empty(0, np.int32)], [np.zeros(1, np.int64)]
        for start in range(0, len(chunks), ENCODED_AT_ONCE):
            words = chunks.slice(start, ENCODED_AT_ONCE).to_pylist()
            texts = [words[first : first + TEXT_CHUNKS] for first in range(0, len(words), TEXT_CHUNKS)]
            encodings = self._backend.encode_batch(texts, is_pretokenized=True, add_special_tokens=False)
            for text, found in zip(texts, encodings, strict=True):
                ids.append(np.array(found.ids, np.int32))
                sizes.append(np.bincount(np.array(found.word_ids, np.int64), minlength=len(text)))
        return RaggedIds(np.concatenate(ids), np.cumsum(np.concatenate(sizes)))


class _WholeWords:
    """Ids of printable ASCII chunks whose words stand in the vocabulary: WordPiece takes a whole word first.

    Where words were added to the vocabulary nothing is taken.
    """

    def __init__(self, parts: dict) -> None:
        vocabulary = {} if _added_words(parts) else parts["model"]["vocab"]
        longest = parts["model"]["max_input_chars_per_word"]
        words = {word: number for word, number in vocabulary.items() if word.isascii() and len(word) <= longest}
        self._words = pa.array(words, pa.large_string())
        self._word_ids = np.array(list(words.values()), np.int32)
        self._lower = parts["normalizer"]["lowercase"]

    def encode(self, chunks: pa.LargeStringArray) -> tuple[pa.BooleanArray, RaggedIds]:
        """Return which chunks (chunks,) consist of whole words, and the ids of those."""
        lowered = pc.ascii_lower(chunks) if self._lower else chunks
        spaced = pc.replace_substring_regex(lowered, PUNCTUATION, r" \1 ")
        split = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(spaced))
        occurring = split.flatten().dictionary_encode()
        places = pc.index_in(occurring.dictionary, value_set=self._words).fill_null(-1).to_numpy()
        places = places[occurring.indices.to_numpy()]
        ends = np.concatenate([[0], np.cumsum(places < 0)])[split.offsets.to_numpy()]
        printable = pc.match_substring_regex(chunks, "^[!-~]+$").to_numpy(zero_copy_only=False)
        easy = printable & (ends[1:] == ends[:-1])
        sizes = np.diff(split.offsets.to_numpy())
        taken = places[np.repeat(easy, sizes)]
        return pa.array(easy), RaggedIds(self._word_ids[taken], np.concatenate([[0], np.cumsum(sizes[easy])]))


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return `starts[i], starts[i] + 1, ...`, `sizes[i]` numbers of each, as one array."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)
