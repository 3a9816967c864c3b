"""A batch plan is a permutation within its token budget (law 2)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stsb_batch.scoring.batches import pad_batch, plan_batches
from stsb_batch.scoring.tokens import TokenizedPairs


@given(st.lists(st.integers(3, 512), max_size=300), st.integers(16, 4096))
def test_plan_is_a_permutation_within_the_budget(lengths: list[int], max_tokens: int):
    """Each row is in exactly one batch, and rows x longest is within the budget unless it is one row."""
    batches = plan_batches(np.array(lengths, np.int64), max_tokens)
    rows = [row for batch in batches for row in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or len(batch) * longest <= max_tokens


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=9), min_size=1, max_size=20), st.randoms())
def test_padding_keeps_each_row_s_tokens(rows: list[list[int]], random):
    """Under the mask a padded row is the ragged row; outside it is padding."""
    flat = np.array([token for row in rows for token in row], np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    tokens = TokenizedPairs(flat, (flat % 2).astype(np.int8), offsets, np.zeros(len(rows), bool))
    chosen = np.array(random.sample(range(len(rows)), random.randint(1, len(rows))))
    batch = pad_batch(tokens, chosen, pad_id=-7)
    for index, row in enumerate(chosen):
        real = batch.attention_mask[index] == 1
        assert batch.input_ids[index][real].tolist() == rows[row]
        assert batch.token_type_ids[index][real].tolist() == [token % 2 for token in rows[row]]
        assert (batch.input_ids[index][~real] == -7).all()
        assert real.tolist() == sorted(real.tolist(), reverse=True)
