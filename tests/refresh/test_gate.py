"""The gate lets equal and better models pass and refuses the rest."""

import numpy as np
import pytest

from stsb_batch.refresh.gate import GateLimits, decide

LIMITS = GateLimits(draws=400)
RNG = np.random.default_rng(0)
LABELS = RNG.uniform(0, 5, 1_500)


def scores(noise: float, seed: int = 1) -> np.ndarray:
    """Scores with a Pearson r of about 1 / sqrt(1 + (noise / 1.44)^2)."""
    return LABELS + np.random.default_rng(seed).normal(0, noise, len(LABELS))


def test_first_model_meets_only_the_floor():
    """Without a champion the floor decides."""
    assert decide(LABELS, scores(0.5), None, LIMITS).passed
    refused = decide(LABELS, scores(5.0), None, LIMITS)
    assert not refused.passed
    assert refused.checks[0].startswith("FAIL Pearson")


def test_equal_model_passes():
    """A model that scores exactly as the champion passes, with a delta of zero."""
    decision = decide(LABELS, scores(0.8), scores(0.8), LIMITS)
    assert decision.passed
    assert decision.figures["delta_pearson"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_better_model_passes_and_worse_is_refused(seed: int):
    """A clear gain passes; a clear loss is refused for its correlation."""
    better, worse = scores(0.6, seed), scores(0.9, seed + 100)
    assert decide(LABELS, better, worse, LIMITS).passed
    refused = decide(LABELS, worse, better, LIMITS)
    assert not refused.passed
    assert any(check.startswith("FAIL delta Pearson") for check in refused.checks)


@pytest.mark.parametrize(
    "broken",
    [np.full(1_500, 2.5), np.where(np.arange(1_500) == 7, np.nan, LABELS), RNG.permutation(LABELS), scores(0.5) * 3],
    ids=["constant", "nan", "shuffled", "wrong scale"],
)
def test_broken_models_are_refused(broken: np.ndarray):
    """Constant, non-finite, shuffled and wrongly scaled scores never pass against a champion."""
    assert not decide(LABELS, broken, scores(0.8), LIMITS).passed


def test_few_test_pairs_are_pointed_out():
    """Below about 1,300 pairs the decision says that they are few."""
    few = slice(0, 100)
    assert "100 test pairs are few" in decide(LABELS[few], scores(0.5)[few], None, LIMITS).notes[0]
    assert decide(LABELS, scores(0.5), None, LIMITS).notes == []
