"""Reliability by band, order symmetry, conformal half-width, plots."""

import numpy as np
import pytest

from stsb_batch.report.calibration import conformal, order_symmetry, reliability


def test_bands_hold_means_and_open_ends():
    """Each band with pairs has its number, mean score and mean label; scores beyond the scale go to the outer bands."""
    scores = np.array([-0.5, 0.5, 2.2, 2.8, 5.5])
    bands = reliability(np.array([0.0, 1.0, 2.0, 4.0, 5.0]), scores)
    assert [(band.name, band.pairs, band.mean_label) for band in bands] == [
        ("0.0-1.0", 2, 0.5),
        ("2.0-3.0", 2, 3.0),
        ("4.0-5.0", 1, 5.0),
    ]
    assert bands[1].mean_score == pytest.approx(2.5)


def test_symmetry_leaves_unscored_pairs_out():
    """Gaps between the two orders are averaged over the pairs that have both scores."""
    found = order_symmetry(np.array([1.0, 2.0, np.nan]), np.array([1.5, 2.0, 3.0]))
    assert (found.pairs, found.mean_gap, found.max_gap) == (2, 0.25, 0.5)


def test_half_width_covers_what_it_promises():
    """Over 200 draws of 100 + 1,000 pairs the mean coverage is 90 %, within one point."""
    covered = []
    for seed in range(200):
        errors = np.random.default_rng(seed).standard_t(3, 1_100)
        zeros = np.zeros(1_100)
        covered.append(conformal(zeros[:100], errors[:100], zeros[100:], errors[100:]).covered)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)


def test_half_width_is_the_order_statistic():
    """With 19 pairs and 90 % it is the 18th smallest error; 8 pairs are too few to promise anything."""
    errors = np.arange(1.0, 20.0)
    assert conformal(np.zeros(19), errors, np.zeros(1), np.zeros(1)).half_width == 18.0
    few = conformal(np.zeros(8), errors[:8], np.zeros(1), np.zeros(1))
    assert few.half_width is None
    assert few.summary == "8 pairs are too few to estimate how far labels are from scores"
