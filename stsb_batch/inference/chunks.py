"""Token ids of texts from a cache of their space-separated chunks: exact for WordPiece, and no Python object per text.

BERT's cleaning, CJK spacing, NFD, accent stripping, lower-casing, punctuation split and greedy longest match (Devlin et al.
2019) never look across a space, so that a text's ids are those of its chunks one after the other. Only U+0020 counts: BERT
deletes some characters at which `str.split()` would split.
"""

import json
import re
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from stsb_batch.inference.ragged import RaggedIds, gather
from stsb_batch.inference.wordpiece import AsciiWordPiece, is_printable

ENCODED_AT_ONCE = 65_536  # new chunks
TEXT_CHUNKS = 1_024  # new chunks that make one text
BLOCK = 1 << 18  # characters of a long text that are simplified at a time
CACHE_BYTES = 8 << 20  # of chunk text, about half a million chunks; above it the cache starts anew


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
    """Encode texts by their chunks, in any thread. The cache lives as long as the encoder and is bounded."""

    def __init__(self, backend: Tokenizer, cache_bytes: int = CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        serialised = backend.to_str()
        self._backend = Tokenizer.from_str(serialised)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True
        parts = json.loads(serialised)
        self._word_piece, self._lock = _word_piece(parts), Lock()
        self.can_simplify, self._translation = not _added_words(parts), _Translation(self._backend)
        longest = parts["model"]["max_input_chars_per_word"]
        self._long_word = re.compile(f"([^ ]{{{longest + 1}}})[^ ]+")
        self._forget()

    def _forget(self) -> None:
        self._chunks = pa.array([], pa.large_string())
        self._ids, self._offsets = np.empty(0, np.int32), np.zeros(1, np.int64)

    def encode(self, texts: pa.LargeStringArray) -> RaggedIds:
        """Encode texts (texts,), none of them null."""
        split = pc.split_pattern(texts, " ")
        occurring = split.flatten().dictionary_encode()
        with self._lock:
            known, places = self._find(occurring.dictionary)
        bounds = split.offsets.to_numpy()
        return gather(known, places[occurring.indices.to_numpy()], bounds - bounds[0])

    def simplify(self, text: str, characters: int) -> str:
        """Return a text with the same tokens: what is deleted is gone, one space between words, long words shortened.

        Each of its words has a token at least. Of a text that is longer even so, at least the given characters are returned.
        A word above the model's longest is the unknown token, however long it is. Words that were added to the vocabulary
        are found before all that: with them there is nothing to simplify (`can_simplify`).
        """
        plain = ""
        for start in range(0, len(text), BLOCK):
            plain += text[start : start + BLOCK].translate(self._translation)
            plain = re.sub(" {2,}", " ", self._long_word.sub(r"\1", plain))
            if len(plain) > characters:
                break
        return plain.strip(" ")

    def _find(self, chunks: pa.LargeStringArray) -> tuple[RaggedIds, np.ndarray]:
        """Add missing chunks to the cache; returns the cache and their places in it."""
        if self._chunks.nbytes > self._cache_bytes:
            self._forget()
        places = pc.index_in(chunks, value_set=self._chunks).fill_null(-1).to_numpy()
        new = np.flatnonzero(places < 0)
        if len(new):
            places = places.copy()
            places[new] = self._learn(chunks.take(pa.array(new)))
        return RaggedIds(self._ids, self._offsets), places

    def _learn(self, chunks: pa.LargeStringArray) -> np.ndarray:
        """Encode new chunks, printable ASCII by ourselves, all else by the tokeniser; returns their places in the cache."""
        ours = is_printable(chunks) if self._word_piece else pa.repeat(False, len(chunks))
        places = np.empty(len(chunks), np.int64)
        ascii_encode = self._word_piece.encode if self._word_piece else self._encode
        for mask, encode in ((ours, ascii_encode), (pc.invert(ours), self._encode)):
            part, rows = chunks.filter(mask), np.flatnonzero(mask.to_numpy(zero_copy_only=False))
            if len(part):
                found = encode(part)
                places[rows] = len(self._chunks) + np.arange(len(part))
                self._chunks = pa.concat_arrays([self._chunks, part])
                self._ids = np.concatenate([self._ids, found.ids])
                self._offsets = np.concatenate([self._offsets, self._offsets[-1] + found.offsets[1:]])
        return places

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


class _Translation(dict):
    """What `str.translate` makes of each character so that only words and spaces are left, by the tokeniser's own rules.

    BERT's cleaning, stripping and splitting look at one character at a time, so each is tried once, between two letters.
    """

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend

    def __missing__(self, code: int) -> str:
        normal = self._backend.normalizer.normalize_str(f"a{chr(code)}a")
        words = [word for word, _ in self._backend.pre_tokenizer.pre_tokenize_str(normal)]
        if len(words) == 1:
            self[code] = "" if words == ["aa"] else chr(code)
        else:
            self[code] = " " if len(words) == 2 else f" {chr(code)} "
        return self[code]


def _word_piece(parts: dict) -> AsciiWordPiece | None:
    """Return our own WordPiece where it suffices: no words added to the vocabulary, and an unknown token in it."""
    model = parts["model"]
    return AsciiWordPiece(parts) if model["unk_token"] in model["vocab"] and not _added_words(parts) else None
