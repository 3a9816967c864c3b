"""Token ids of many texts in one array."""

import numpy as np

from stsb_batch.inference.ragged import RaggedIds, gather, ranges


def test_ranges_are_laid_out_one_after_the_other():
    """Each start counts up for its size; none for size 0, nothing for nothing."""
    assert ranges(np.array([5, 0, 9]), np.array([3, 0, 2])).tolist() == [5, 6, 7, 9, 10]
    assert ranges(np.empty(0, int), np.empty(0, int)).tolist() == []


def test_texts_are_gathered_from_pieces():
    """A text's ids are those of its pieces in order; a text without pieces has none."""
    pieces = RaggedIds(np.array([7, 8, 9], np.int32), np.array([0, 1, 3]))
    found = gather(pieces, np.array([1, 0, 1]), np.array([0, 2, 2, 3]))
    assert found.ids.tolist() == [8, 9, 7, 8, 9]
    assert found.offsets.tolist() == [0, 3, 3, 5]
