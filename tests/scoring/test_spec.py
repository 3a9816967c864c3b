"""Limits of rows without a score, in words and as an error."""

import pytest

from stsb_batch.errors import BadDataError
from stsb_batch.report.sketch import Sketch
from stsb_batch.scoring.spec import RowLimit, describe_unscored


def test_what_is_above_the_limit_is_an_error_with_its_option():
    """As many rows as allowed pass; one more is named by status, count and option."""
    limit = RowLimit(100, 2, "--max-bad-rows")
    limit.check(Sketch(rows=50, statuses={"OK": 48, "NULL_INPUT": 2}))
    with pytest.raises(BadDataError, match=r"^a: 3 rows have no score \(NULL_INPUT 3\), 2 of 100 may have none \(--max-bad"):
        limit.check(Sketch(rows=50, statuses={"OK": 47, "NULL_INPUT": 3}), "a: ")


def test_rows_without_a_score_are_described_by_status():
    """Scored rows are left out, the others sorted by name."""
    assert describe_unscored({"OOM": 1, "OK": 5, "OK_TRUNCATED": 2, "EMPTY_INPUT": 1_200}) == "EMPTY_INPUT 1,200, OOM 1"
