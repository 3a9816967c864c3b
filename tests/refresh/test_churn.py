"""Churn between two models' scores of the same pairs."""

import numpy as np
import pytest

from stsb_batch.refresh.churn import churn_check, measure_churn

OLD = np.array([1.0, 2.0, 3.0, 4.0, np.nan, 0.5])


def test_figures_are_those_counted_by_hand():
    """Mean shift, rank correlation, crossings of each threshold and the worst movers, worst first."""
    new = np.array([1.0, 3.0, 3.0, 2.0, 1.0, 0.6])
    churn = measure_churn(OLD, new, (2.5, 4.0))
    assert churn.pairs == 5
    assert churn.mean_shift == pytest.approx((0 + 1 + 0 - 2 + 0.1) / 5)
    assert churn.mean_move == pytest.approx(3.1 / 5)
    assert churn.crossing == {"2.5": 2 / 5, "4": 1 / 5}
    assert [mover.position for mover in churn.movers[:3]] == [3, 1, 5]
    assert (churn.movers[0].champion, churn.movers[0].challenger) == (4.0, 2.0)
    assert churn.spearman == pytest.approx(0.6669, abs=1e-3)


def test_same_scores_churn_nothing():
    """Equal models cross no threshold and rank alike."""
    churn = measure_churn(OLD, OLD, (2.5,))
    assert (churn.mean_shift, churn.crossing) == (0.0, {"2.5": 0.0})
    assert churn.spearman == pytest.approx(1.0)


def test_nothing_scored_is_no_churn():
    """A sample of which nothing can be scored gives zeros, not NaN."""
    churn = measure_churn(np.array([np.nan]), np.array([1.0]), (2.5,))
    assert (churn.pairs, churn.spearman, churn.movers) == (0, None, [])


@pytest.mark.parametrize(("limit", "passed"), [(None, True), (0.5, True), (0.3, False)])
def test_limit_refuses(limit: float | None, passed: bool):
    """The largest share that crosses a threshold is held against the limit, where there is one."""
    churn = measure_churn(OLD, np.array([1.0, 3.0, 3.0, 2.0, 1.0, 0.6]), (2.5, 4.0))
    check = churn_check(churn, limit)
    assert check.passed is passed
    assert "40.00% cross 2.5, 20.00% cross 4" in check.detail
