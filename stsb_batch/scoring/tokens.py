"""From text pairs to token ids, exactly as the checkpoint's own tokeniser gives them."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

CHUNK_PAIRS = 8_192  # an Encoding object costs about 2 kB; this many are alive at a time


@dataclass(frozen=True)
class TokenizedPairs:
    """Ragged token ids: pair i has `ids[offsets[i]:offsets[i + 1]]`, special tokens included.

    `ids` (tokens,) int32 · `segments` (tokens,) int8, 0 left and 1 right · `offsets` (pairs + 1,) int64 ·
    `truncated` (pairs,) bool, where tokens were cut off.
    """

    ids: np.ndarray
    segments: np.ndarray
    offsets: np.ndarray
    truncated: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


class PairTokenizer:
    """Encode pairs with a checkpoint's tokeniser, cut to `max_length` tokens, the longer text first.

    Text that looks like a special token ("[SEP]") stays text.
    """

    def __init__(self, backend: Tokenizer, *, pad_id: int, max_length: int) -> None:
        self.pad_id = pad_id
        self.max_length = max_length
        self._backend = backend
        backend.no_padding()
        backend.enable_truncation(max_length, strategy="longest_first")
        backend.encode_special_tokens = True

    def encode(self, left: list[str], right: list[str]) -> TokenizedPairs:
        """Encode the pairs (left[i], right[i])."""
        ids, segments, lengths, truncated = [], [], [], []
        for start in range(0, len(left), CHUNK_PAIRS):
            chunk = slice(start, start + CHUNK_PAIRS)
            encodings = self._backend.encode_batch_fast(list(zip(left[chunk], right[chunk], strict=True)))
            sizes = [len(encoding) for encoding in encodings]
            ids.append(np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32, sum(sizes)))
            segments.append(np.fromiter(chain.from_iterable(e.type_ids for e in encodings), np.int8, sum(sizes)))
            truncated += [size == self.max_length and bool(e.overflowing) for size, e in zip(sizes, encodings, strict=True)]
            lengths += sizes
        return TokenizedPairs(
            ids=np.concatenate(ids) if ids else np.empty(0, np.int32),
            segments=np.concatenate(segments) if segments else np.empty(0, np.int8),
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            truncated=np.array(truncated, bool),
        )
