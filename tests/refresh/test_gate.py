"""The gate lets equal and better models pass and refuses the rest."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from stsb_batch.refresh.gate import Check, GateDecision, GateLimits, decide, golden_check, leak_check

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
    assert str(refused.checks[0]).startswith("FAIL Pearson")


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
    assert "delta_pearson" in {check.name for check in refused.failed}


@pytest.mark.parametrize(
    "broken",
    [np.full(1_500, 2.5), np.where(np.arange(1_500) == 7, np.nan, LABELS), RNG.permutation(LABELS), scores(0.5) * 3],
    ids=["constant", "nan", "shuffled", "wrong scale"],
)
def test_broken_models_are_refused(broken: np.ndarray):
    """Constant, non-finite, shuffled and wrongly scaled scores never pass against a champion."""
    assert not decide(LABELS, broken, scores(0.8), LIMITS).passed


def test_few_test_pairs_are_pointed_out():
    """Too few pairs for the margin are pointed out with the number that would do, from the interval where there is one."""
    few = slice(0, 100)
    assert "100 test pairs are few: about 1,300 are needed" in decide(LABELS[few], scores(0.5)[few], None, LIMITS).notes[0]
    assert decide(LABELS, scores(0.5), None, LIMITS).notes == []
    compared = decide(LABELS[few], scores(0.8)[few], scores(0.8, 2)[few], LIMITS)
    width = compared.figures["delta_pearson"] - compared.figures["delta_lower"]
    assert f"about {float(f'{100 * (width / 0.01) ** 2:.2g}'):,.0f} are needed" in compared.notes[-1]


@pytest.mark.parametrize("first", [True, False], ids=["first model", "with champion"])
def test_shuffled_labels_and_constant_heads_are_refused_20_of_20(first: bool):
    """Scores without any skill, and scores that hardly vary, are refused 20 times of 20, with and without a champion."""
    champion = None if first else scores(0.8)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shuffled = rng.permutation(scores(0.5, seed))
        constant = rng.uniform(0, 5) + rng.normal(0, 1e-3, len(LABELS))
        assert not decide(LABELS, shuffled, champion, LIMITS).passed
        assert not decide(LABELS, constant, champion, LIMITS).passed


def test_leaked_test_pairs_are_refused_20_of_20():
    """A test set of which more than 1 % is also in train is refused, however good the scores are."""
    for share in np.linspace(0.02, 1, 20):
        check = leak_check(int(share * len(LABELS)), len(LABELS))
        decision = decide(LABELS, scores(0.1), scores(0.8), LIMITS, also=[check])
        assert not decision.passed
        assert decision.failed == [check]
    assert leak_check(1, 750).passed


@pytest.mark.parametrize(("gap", "passed"), [(0.0, True), (0.0005, True), (0.002, False), (float("nan"), False)])
def test_golden_scores_have_a_tolerance(gap: float, passed: bool):
    """Scores of a fresh process may differ by rounding, not by more, and NaN never passes."""
    assert golden_check(gap, 32).passed is passed


def test_equal_models_pass_at_reference_size():
    """Models of equal skill that err differently on 5 % of the pairs pass in at least 19 of 20 draws of 1,500 pairs."""
    passed = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        champion = LABELS + rng.normal(0, 0.7, len(LABELS))
        own = np.where(rng.random(len(LABELS)) < 0.05, LABELS + rng.normal(0, 0.7, len(LABELS)), champion)
        slices = rng.choice(["a", "b", "c"], len(LABELS))
        passed += decide(LABELS, own, champion, LIMITS, slices=slices).passed
    assert passed >= 19


def test_a_slice_that_got_worse_is_refused():
    """A model that is better overall but surely worse on one slice is refused, and the check names the slice."""
    slices = np.where(np.arange(len(LABELS)) < 150, "names", "captions")
    challenger = np.where(slices == "names", scores(1.5, 3), scores(0.5, 4))
    decision = decide(LABELS, challenger, scores(0.8), LIMITS, slices=slices)
    assert [check.name for check in decision.failed] == ["slice names"]


def test_small_slices_are_left_out():
    """A slice of less than 30 pairs is not compared, because chance alone would refuse it, and a note says so."""
    slices = np.where(np.arange(len(LABELS)) < 20, "rare", "common")
    challenger = np.where(slices == "rare", scores(3.0, 3), scores(0.5, 4))
    decision = decide(LABELS, challenger, scores(0.8), LIMITS, slices=slices)
    assert decision.passed
    assert decision.notes == ["slices with fewer than 30 pairs were not compared (1): rare"]


def test_champion_that_gives_nan_can_be_replaced():
    """Against a champion whose scores are not finite only the floor counts, and a note says so."""
    broken = np.where(np.arange(len(LABELS)) == 3, np.nan, scores(0.8))
    decision = decide(LABELS, scores(0.9), broken, LIMITS)
    assert decision.passed
    assert "the champion's scores are not all finite" in decision.notes[0]


def test_interval_agrees_with_plain_resampling():
    """The bootstrap by moments gives the interval that resampling the pairs one draw at a time gives."""
    own, theirs = scores(0.7, 5)[:300], scores(0.8, 6)[:300]
    found = decide(LABELS[:300], own, theirs, GateLimits(draws=1_000)).figures
    rng, deltas = np.random.default_rng(42), []
    for _ in range(1_000):
        rows = rng.integers(0, 300, 300)
        ours, other = (np.corrcoef(LABELS[:300][rows], scores_[rows])[0, 1] for scores_ in (own, theirs))
        deltas.append(ours - other)
    assert found["delta_lower"] == pytest.approx(np.quantile(deltas, 0.05), abs=1e-9)
    assert found["delta_upper"] == pytest.approx(np.quantile(deltas, 0.95), abs=1e-9)


def test_decision_survives_its_card():
    """What a card keeps of a decision is read back equal, whatever the checks are."""
    decision = decide(LABELS, scores(0.9), scores(0.8), LIMITS, also=[leak_check(1, 750)])
    assert GateDecision.from_card(json.loads(json.dumps(asdict(decision)))) == decision


def test_cards_of_version_0_1_0_are_read():
    """A card whose checks are strings, as version 0.1.0 wrote them, gives checks with their verdict and detail."""
    card = {
        "passed": False,
        "checks": ["PASS MSE 0.5 at most 0.6", "FAIL Pearson 0.1"],
        "notes": ["few"],
        "figures": {"mse": 0.5},
    }
    checks = [Check(True, "", "MSE 0.5 at most 0.6"), Check(False, "", "Pearson 0.1")]
    assert GateDecision.from_card(card) == GateDecision(False, checks, ["few"], {"mse": 0.5})
