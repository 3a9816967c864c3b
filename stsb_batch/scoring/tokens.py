"""From text pairs to token ids, exactly as the checkpoint's own tokeniser gives them."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from stsb_batch.scoring.chunks import ChunkEncoder, is_chunk_exact
from stsb_batch.scoring.ragged import RaggedIds, ranges

PAIRS_AT_ONCE = 8_192  # an Encoding object costs about 2 kB; this many are alive at a time


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

    Text that looks like a special token ("[SEP]") stays text. BERT's tokenisers take the chunk cache, all others the
    reference path; `fast` says which.
    """

    def __init__(self, backend: Tokenizer, *, max_length: int, fast: bool = True) -> None:
        self.max_length = max_length
        self._backend = backend
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        frame = backend.encode("", "")
        self._frame = frame.ids  # [CLS] [SEP] [SEP]
        self.fast = fast and is_chunk_exact(backend) and frame.type_ids == [0, 0, 1]
        self._chunks = ChunkEncoder(backend) if self.fast else None
        backend.enable_truncation(max_length, strategy="longest_first")

    def encode(
        self,
        left: pa.LargeStringArray,
        right: pa.LargeStringArray,
        left_index: np.ndarray | None = None,
        right_index: np.ndarray | None = None,
    ) -> TokenizedPairs:
        """Encode the pairs (left[left_index[i]], right[right_index[i]]); without indices (left[i], right[i])."""
        left_index = np.arange(len(left)) if left_index is None else left_index
        right_index = np.arange(len(right)) if right_index is None else right_index
        if self.fast:
            return self._join(self._chunks.encode(left), self._chunks.encode(right), left_index, right_index)
        return self._encode_reference(
            left.take(pa.array(left_index)).to_pylist(), right.take(pa.array(right_index)).to_pylist()
        )

    def _join(self, left: RaggedIds, right: RaggedIds, left_index: np.ndarray, right_index: np.ndarray) -> TokenizedPairs:
        """Lay out [CLS] left [SEP] right [SEP] for each pair, truncated as `tokenizers` truncates."""
        left_start, right_start = left.offsets[left_index], right.offsets[right_index]
        whole = left.offsets[left_index + 1] - left_start, right.offsets[right_index + 1] - right_start
        n_left, n_right = longest_first(*whole, self.max_length - len(self._frame))
        offsets = np.concatenate([[0], np.cumsum(n_left + n_right + len(self._frame))])
        ids, segments = np.empty(offsets[-1], np.int32), np.zeros(offsets[-1], np.int8)
        begin, middle, end = offsets[:-1], offsets[:-1] + 1 + n_left, offsets[1:] - 1
        ids[begin], ids[middle], ids[end] = self._frame
        ids[ranges(begin + 1, n_left)] = left.ids[ranges(left_start, n_left)]
        right_places = ranges(middle + 1, n_right)
        ids[right_places] = right.ids[ranges(right_start, n_right)]
        segments[right_places], segments[end] = 1, 1
        return TokenizedPairs(ids, segments, offsets, n_left + n_right < whole[0] + whole[1])

    def _encode_reference(self, left: list[str], right: list[str]) -> TokenizedPairs:
        ids, segments, lengths, truncated = [], [], [], []
        for start in range(0, len(left), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            encodings = self._backend.encode_batch_fast(list(zip(left[part], right[part], strict=True)))
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


def longest_first(left: np.ndarray, right: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens that are kept of each text, (pairs,) both, by the rule of `tokenizers` for pairs.

    The longer text is cut to what the shorter one leaves; where both are above half of the limit, to half each.
    """
    short, long = np.minimum(left, right), np.maximum(left, right)
    kept_long = np.where(short > limit, short, np.maximum(short, limit - short))
    both = short + kept_long > limit
    kept_short = np.where(both, limit // 2, short)
    kept_long = np.where(both, limit // 2 + limit % 2, np.minimum(kept_long, long))
    swapped = left > right
    return np.where(swapped, kept_long, kept_short), np.where(swapped, kept_short, kept_long)
