"""A batch plan is a permutation within its token budget (law 2)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stsb_batch.inference.batches import gather_batch, pack_batch, pair_capacity, plan_batches, plan_packed
from tests.builders import tokenized


@settings(deadline=None)
@given(st.lists(st.integers(3, 512), max_size=300), st.integers(16, 4096))
def test_plan_is_a_permutation_within_the_budget(lengths: list[int], max_tokens: int):
    """Each row is in exactly one batch, of rows of one length, within the budget unless it is one row."""
    batches = plan_batches(np.array(lengths, np.int64), max_tokens)
    rows = [row for batch in batches for row in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    for batch in batches:
        [length] = {lengths[row] for row in batch}
        assert len(batch) == 1 or len(batch) * length <= max_tokens
    longest = [lengths[batch[0]] for batch in batches]
    assert longest == sorted(longest, reverse=True)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 1000), min_size=4, max_size=4), min_size=1, max_size=20), st.randoms())
def test_batch_has_each_row_s_tokens(rows: list[list[int]], random):
    """A rectangle holds the ragged rows that were chosen, in that order."""
    other = [7, 7]  # a row of another length in front
    flat = np.array(other + [token for row in rows for token in row], np.int32)
    offsets = np.concatenate([[0, 2], 2 + np.cumsum([len(row) for row in rows])])
    tokens = tokenized(flat, offsets)
    chosen = np.array(random.sample(range(len(rows)), random.randint(1, len(rows))))
    batch = gather_batch(tokens, chosen + 1)
    assert batch.input_ids.tolist() == [rows[row] for row in chosen]
    assert batch.token_type_ids.tolist() == [[token % 2 for token in rows[row]] for row in chosen]


@settings(deadline=None)
@given(st.lists(st.integers(3, 512), min_size=1, max_size=300), st.integers(16, 4096))
def test_packed_plan_is_a_permutation_within_the_budget(lengths: list[int], max_tokens: int):
    """Each row is in exactly one batch, longest first, within the budget unless it is one row, as full as can be."""
    batches = plan_packed(np.array(lengths, np.int64), max_tokens)
    rows = [row for batch in batches for row in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    used = [sum(lengths[row] for row in batch) for batch in batches]
    assert all(len(batch) == 1 or tokens <= max_tokens for batch, tokens in zip(batches, used, strict=True))
    assert all(len(batch) <= pair_capacity(max_tokens) for batch in batches)
    for batch, tokens, following in zip(batches, used, batches[1:], strict=False):
        assert tokens + lengths[following[0]] > max_tokens or len(batch) == pair_capacity(max_tokens)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 1000), min_size=2, max_size=9), min_size=1, max_size=20), st.integers(0, 50))
def test_packed_batch_has_each_row_s_tokens(rows: list[list[int]], capacity: int):
    """Ids, positions and token type ids of each row stand where its start and length say; padding has no tokens."""
    rows = sorted(rows, key=len, reverse=True)
    flat = np.array([7, 7] + [token for row in rows for token in row], np.int32)  # a row in front that is not asked for
    offsets = np.concatenate([[0, 2], 2 + np.cumsum([len(row) for row in rows])])
    tokens = tokenized(flat, offsets)
    size = max(int(offsets[-1]) - 2, 8 * len(rows)) + capacity
    batch = pack_batch(tokens, np.arange(len(rows)) + 1, size)
    ids, positions, token_type_ids = batch.numbers[: 3 * size].reshape(3, size)
    starts, lengths = batch.numbers[3 * size :].reshape(2, batch.capacity)
    assert len(rows) == batch.pairs <= batch.capacity
    assert batch.longest == len(rows[0])
    assert not lengths[len(rows) :].any()
    for row, start, length in zip(rows, starts, lengths, strict=False):
        place = slice(start, start + length)
        assert ids[place].tolist() == row
        assert positions[place].tolist() == list(range(len(row)))
        assert token_type_ids[place].tolist() == [token % 2 for token in row]
