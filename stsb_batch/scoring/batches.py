"""Length-ordered batches under a token budget. Pure: lengths in, row numbers and padded arrays out."""

from dataclasses import dataclass

import numpy as np

from stsb_batch.scoring.tokens import TokenizedPairs


@dataclass(frozen=True)
class Batch:
    """One padded batch; each array is (pairs, tokens) int64, `attention_mask` 1 on real tokens."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray


def plan_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Split row numbers into batches of like length, longest first.

    The plan is a permutation of the rows. In each batch, rows x longest is at most `max_tokens`, unless it is one row.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        rows = max(1, max_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def pad_batch(tokens: TokenizedPairs, rows: np.ndarray, pad_id: int) -> Batch:
    """Lay the given rows out as a rectangle, padded on the right with `pad_id`."""
    lengths = tokens.lengths[rows]
    positions = np.arange(lengths.max())
    real = positions < lengths[:, None]  # (pairs, tokens)
    source = np.where(real, tokens.offsets[rows][:, None] + positions, 0)
    return Batch(
        input_ids=np.where(real, tokens.ids[source], pad_id).astype(np.int64),
        attention_mask=real.astype(np.int64),
        token_type_ids=np.where(real, tokens.segments[source], 0).astype(np.int64),
    )
