"""From text pairs to token ids, exactly as the checkpoint's own tokeniser gives them."""

import json
from dataclasses import dataclass
from itertools import chain, groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from stsb_batch.inference.chunks import CACHE_BYTES, ChunkEncoder, is_chunk_exact
from stsb_batch.inference.ragged import RaggedIds, ranges

TEXTS_AT_ONCE = 8_192  # an Encoding object costs about 2 kB; this many are alive at a time
CHARACTERS_PER_TOKEN = 64  # a text with more characters per token of the limit is shortened before it is tokenised
COUNTED = 1 << 20  # characters of such a text whose tokens are counted


@dataclass(frozen=True)
class TokenizedPairs:
    """Ragged token ids: pair i has `ids[offsets[i]:offsets[i + 1]]`, special tokens included.

    `ids` (tokens,) int32 · `token_type_ids` (tokens,) int8, 0 left and 1 right · `offsets` (pairs + 1,) int64 ·
    `truncated` (pairs,) bool, where tokens were cut off · `empty` (pairs,) bool, where a text has no token at all ·
    `unknown` (pairs,) int64, how many tokens are the unknown token · `special` tokens that each pair has
    beside those of its texts. An engine needs the first three only.
    """

    ids: np.ndarray
    token_type_ids: np.ndarray
    offsets: np.ndarray
    truncated: np.ndarray
    empty: np.ndarray
    unknown: np.ndarray
    special: int

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of texts without special tokens: of a long text its first ones only. `counts` (texts,) are all it has."""

    ids: RaggedIds
    counts: np.ndarray


class Frame:
    """The special tokens that a tokeniser puts before, between and after the two texts of a pair, and the token type ids.

    Each of `before`, `between` and `after` is a list of (id, token_type_id).
    """

    def __init__(self, backend: Tokenizer) -> None:
        known = (text for text in chain(["a"], backend.get_vocab()) if backend.encode(text, add_special_tokens=False).ids)
        text = next(known)
        pair = backend.encode(text, text)
        tokens = zip(pair.sequence_ids, pair.ids, pair.type_ids, strict=True)
        runs = [(side, [token[1:] for token in run]) for side, run in groupby(tokens, key=lambda token: token[0])]
        sides = [side for side, _ in runs]
        first, second = sides.index(0), sides.index(1)
        self.before, self.between, self.after = (
            [token for side, run in part if side is None for token in run]
            for part in (runs[:first], runs[first + 1 : second], runs[second + 1 :])
        )
        self.token_type_ids = runs[first][1][0][1], runs[second][1][0][1]
        self.size = len(self.before) + len(self.between) + len(self.after)


class PairTokenizer:
    """Encode pairs with a checkpoint's tokeniser, cut to `max_length` tokens, the longer text first.

    Text that looks like a special token ("[SEP]") stays text. BERT's tokenisers take the chunk cache, all others the
    reference path; `fast` says which.
    """

    def __init__(self, backend: Tokenizer, *, max_length: int, fast: bool = True, cache_bytes: int = CACHE_BYTES) -> None:
        self.max_length = max_length
        self._backend = backend
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        self._frame, self._unknown = Frame(backend), unknown_id(backend)
        self._chunks = ChunkEncoder(backend, cache_bytes) if fast and is_chunk_exact(backend) else None

    @property
    def fast(self) -> bool:
        return self._chunks is not None

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
        return self._join(self._encode_texts(left), self._encode_texts(right), left_index, right_index)

    def _join(
        self, left: EncodedTexts, right: EncodedTexts, left_index: np.ndarray, right_index: np.ndarray
    ) -> TokenizedPairs:
        """Lay out [CLS] left [SEP] right [SEP] for each pair, truncated as `tokenizers` truncates."""
        frame, uncut = self._frame, (left.counts[left_index], right.counts[right_index])
        n_left, n_right = longest_first(*uncut, self.max_length - frame.size)
        offsets = np.concatenate([[0], np.cumsum(n_left + n_right + frame.size)])
        ids, token_type_ids = np.empty(offsets[-1], np.int32), np.zeros(offsets[-1], np.int8)
        middle = offsets[:-1] + len(frame.before) + n_left
        for starts, special in (
            (offsets[:-1], frame.before),
            (middle, frame.between),
            (offsets[1:] - len(frame.after), frame.after),
        ):
            for place, (token, token_type_id) in enumerate(special):
                ids[starts + place], token_type_ids[starts + place] = token, token_type_id
        for texts, index, starts, kept, token_type_id in (
            (left, left_index, middle - n_left, n_left, frame.token_type_ids[0]),
            (right, right_index, middle + len(frame.between), n_right, frame.token_type_ids[1]),
        ):
            places = ranges(starts, kept)
            ids[places] = texts.ids.ids[ranges(texts.ids.offsets[index], kept)]
            if token_type_id:
                token_type_ids[places] = token_type_id
        return TokenizedPairs(
            ids=ids,
            token_type_ids=token_type_ids,
            offsets=offsets,
            truncated=n_left + n_right < uncut[0] + uncut[1],
            empty=(uncut[0] == 0) | (uncut[1] == 0),
            unknown=self._count_unknown(ids, offsets),
            special=frame.size,
        )

    def _count_unknown(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Count the unknown tokens of each pair (pairs,)."""
        places = np.flatnonzero(ids == self._unknown) if self._unknown is not None else np.empty(0, int)
        return np.bincount(np.searchsorted(offsets, places, side="right") - 1, minlength=len(offsets) - 1)

    def _encode_texts(self, texts: pa.LargeStringArray) -> EncodedTexts:
        encode = self._chunks.encode if self._chunks else self._encode_reference
        is_long = pc.greater(pc.utf8_length(texts), self.max_length * CHARACTERS_PER_TOKEN)
        if not is_long.true_count:
            found = encode(texts)
            return EncodedTexts(found, np.diff(found.offsets))
        shortened = [self._shorten(text.as_py()) for text in texts.filter(is_long)]
        openings = pa.array([opening for opening, _ in shortened], texts.type)
        found = encode(pc.replace_with_mask(texts, is_long, openings))
        counts = np.diff(found.offsets)
        counts[is_long.to_numpy(zero_copy_only=False)] += [rest for _, rest in shortened]
        return EncodedTexts(found, counts)

    def _shorten(self, text: str) -> tuple[str, int]:
        """Return the beginning of a long text that has all tokens a pair can hold, and how many tokens come after it.

        That number decides only which of two long texts is the longer; it is counted up to `COUNTED` characters.
        """
        if self._chunks is None or not self._chunks.can_simplify:
            return self._shorten_reference(text)
        text = self._chunks.simplify(text, COUNTED)
        end = _word_end(text, self.max_length)  # each word has a token at least
        return text[:end], len(self._chunks.encode(pa.array([text[end:COUNTED]], pa.large_string())).ids)

    def _shorten_reference(self, text: str) -> tuple[str, int]:
        """Do the same where nothing is known of the tokeniser: read on until there are more tokens than a pair can hold.

        The last tokens before a cut may not be those of the whole text, so twice as many are asked for.
        """
        size, tokens = self.max_length * CHARACTERS_PER_TOKEN, 0
        while size < len(text) and (tokens := self._count(text[:size])) <= 2 * self.max_length:
            size *= 2
        return text[:size], max(0, self._count(text[:COUNTED]) - tokens) if size < len(text) else 0

    def _count(self, text: str) -> int:
        return len(self._backend.encode(text, add_special_tokens=False).ids)

    def _encode_reference(self, texts: pa.LargeStringArray) -> RaggedIds:
        ids, sizes = [np.empty(0, np.int32)], [0]
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            part = texts.slice(start, TEXTS_AT_ONCE).to_pylist()
            encodings = self._backend.encode_batch_fast(part, add_special_tokens=False)
            sizes += [len(encoding) for encoding in encodings]
            total = sum(sizes[-len(part) :])
            ids.append(np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32, total))
        return RaggedIds(np.concatenate(ids), np.cumsum(sizes, dtype=np.int64))


def unknown_id(backend: Tokenizer) -> int | None:
    """Return the token for what the vocabulary lacks; None where the tokeniser can spell everything, as byte-level BPE."""
    model = json.loads(backend.to_str())["model"]
    return model["unk_id"] if "unk_id" in model else backend.token_to_id(model.get("unk_token") or "")


def _word_end(text: str, words: int) -> int:
    """Return where so many words end that have one space between them."""
    end = -1
    for _ in range(words):
        end = text.find(" ", end + 1)
        if end < 0:
            return len(text)
    return end


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
