"""Batches of pairs under a token budget, nothing padded. Pure: lengths in, row numbers and arrays out.

A window holds enough pairs for full batches of each length: rectangles of pairs of one length, for any engine. An engine
that packs takes pairs of any length one after the other. Either way a pair's score cannot depend on its neighbours' lengths.
"""

from dataclasses import dataclass

import numpy as np

from stsb_batch.inference.ragged import ranges
from stsb_batch.inference.tokens import TokenizedPairs


@dataclass(frozen=True)
class Batch:
    """Pairs of the same length; each array is (pairs, tokens) int64."""

    input_ids: np.ndarray
    token_type_ids: np.ndarray


@dataclass(frozen=True)
class PackedBatch:
    """Pairs one after the other, padded to fixed sizes, as one array of int32.

    `numbers` holds the ids, positions and token type ids (tokens,) of all tokens, then the starts and lengths (capacity,) of
    all pairs; those beyond the first `pairs` are padding and have no tokens. `longest` is the length of the longest pair.
    """

    numbers: np.ndarray
    capacity: int
    pairs: int
    longest: int


def plan_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Split row numbers into batches of equal length, longest first.

    The plan is a permutation of the rows. In each batch, rows x length is at most `max_tokens`, unless the batch is one row.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.flatnonzero(np.diff(lengths[order])) + 1
    batches = []
    for rows in np.split(order, ends) if len(order) else ():
        size = max(1, max_tokens // int(lengths[rows[0]]))
        batches += [rows[start : start + size] for start in range(0, len(rows), size)]
    return batches


def plan_packed(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Split row numbers into batches of at most `max_tokens` in all, unless a batch is one row; longest first.

    No batch has more rows than `pair_capacity` says.
    """
    order = np.argsort(-lengths, kind="stable")
    tokens = np.cumsum(lengths[order])
    batches, begin, before = [], 0, 0
    while begin < len(order):
        end = min(int(np.searchsorted(tokens, before + max_tokens, side="right")), begin + pair_capacity(max_tokens))
        end = max(end, begin + 1)
        batches.append(order[begin:end])
        begin, before = end, int(tokens[end - 1])
    return batches


def pair_capacity(tokens: int) -> int:
    """Return how many pairs a packed batch of `tokens` may hold: more than fit, unless texts are single words."""
    return max(1, tokens // 8)


def gather_batch(tokens: TokenizedPairs, rows: np.ndarray) -> Batch:
    """Lay the given rows, all of one length, out as a rectangle."""
    starts = tokens.offsets[rows]
    places = starts[:, None] + np.arange(tokens.offsets[rows[0] + 1] - starts[0])  # (pairs, tokens)
    return Batch(
        input_ids=tokens.ids[places].astype(np.int64), token_type_ids=tokens.token_type_ids[places].astype(np.int64)
    )


def pack_batch(tokens: TokenizedPairs, rows: np.ndarray, size: int) -> PackedBatch:
    """Lay the given rows, longest first, out one after the other, padded to `size` tokens."""
    lengths = tokens.offsets[rows + 1] - tokens.offsets[rows]
    used, capacity = int(lengths.sum()), pair_capacity(size)
    starts, places = np.cumsum(lengths) - lengths, ranges(tokens.offsets[rows], lengths)
    numbers = np.zeros(3 * size + 2 * capacity, np.int32)
    ids, positions, token_type_ids = numbers[: 3 * size].reshape(3, size)
    ids[:used], token_type_ids[:used] = tokens.ids[places], tokens.token_type_ids[places]
    positions[:used] = places - np.repeat(tokens.offsets[rows], lengths)
    numbers[3 * size : 3 * size + capacity] = size
    numbers[3 * size : 3 * size + len(rows)] = starts
    numbers[3 * size + capacity : 3 * size + capacity + len(rows)] = lengths
    return PackedBatch(numbers, capacity, len(rows), int(lengths[0]))
