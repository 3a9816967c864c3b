"""Batches of pairs of one length under a token budget. Pure: lengths in, row numbers and rectangles out.

A window holds so many pairs that each length fills its batches: nothing is padded, and the score of a pair cannot depend on
how long its neighbours are.
"""

from dataclasses import dataclass

import numpy as np

from stsb_batch.scoring.tokens import TokenizedPairs


@dataclass(frozen=True)
class Batch:
    """Pairs of the same length; each array is (pairs, tokens) int64."""

    input_ids: np.ndarray
    token_type_ids: np.ndarray


def plan_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Split row numbers into batches of equal length, longest first.

    The plan is a permutation of the rows. In each batch, rows x length is at most `max_tokens`, unless it is one row.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.flatnonzero(np.diff(lengths[order])) + 1
    batches = []
    for rows in np.split(order, ends) if len(order) else ():
        size = max(1, max_tokens // int(lengths[rows[0]]))
        batches += [rows[start : start + size] for start in range(0, len(rows), size)]
    return batches


def gather_batch(tokens: TokenizedPairs, rows: np.ndarray) -> Batch:
    """Lay the given rows, all of one length, out as a rectangle."""
    starts = tokens.offsets[rows]
    places = starts[:, None] + np.arange(tokens.offsets[rows[0] + 1] - starts[0])  # (pairs, tokens)
    return Batch(input_ids=tokens.ids[places].astype(np.int64), token_type_ids=tokens.segments[places].astype(np.int64))
