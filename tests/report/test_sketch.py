"""Sketches of parts, merged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stsb_batch.report.sketch import Sketch, sketch_rows
from tests.builders import make_sketch

SCORES = st.lists(st.one_of(st.none(), st.floats(-2, 7, width=32)), max_size=40)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_merged_sketches_are_the_sketch_of_the_merged_rows(left: list, right: list):
    """Counts, distributions, quantiles and histogram of two parts merged are those of all rows (law 6)."""
    merged = make_sketch(left).merge(make_sketch(right))
    array = np.array([np.nan if s is None else s for s in left + right], np.float32)
    scored = array[~np.isnan(array)]
    assert merged.rows == len(array)
    assert merged.scored == len(scored)
    assert sum(rows for _, _, rows in merged.score_histogram()) == len(scored)
    assert Sketch(**merged.to_json()) == merged
    whole = sketch_rows(
        array, np.where(np.isnan(array), 2, 0), np.zeros(len(array), np.int32), distinct=0, gaps=np.empty(0), seconds=0
    )
    assert (merged.scores, merged.statuses) == (whole.scores, whole.statuses)
    if len(scored):
        median = np.quantile(np.clip(scored, -1, 6), 0.5, method="inverted_cdf")
        assert merged.score_quantiles([0.5])[0] == pytest.approx(median, abs=0.00051)
