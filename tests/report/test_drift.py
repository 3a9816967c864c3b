"""Drift: quiet on healthy nights, loud when rows move, whatever the size."""

import numpy as np
import pytest

from stsb_batch.report.drift import KS_ROWS, DriftFigure, compare
from stsb_batch.report.sketch import Sketch, sketch_rows

STATUSES = np.array([0] * 92 + [1] * 2 + [2] * 4 + [3] * 2, np.int8)  # per hundred rows: OK, truncated, null, empty


def night(rows: int, seed: int, *, shift: float = 0.0, longer: float = 1.0, nulls: float = 0.0) -> Sketch:
    """Sketch a night: scores in two humps, skewed lengths, 8 % of the rows not plainly OK."""
    rng = np.random.default_rng(seed)
    humps = np.where(rng.random(rows) < 0.6, rng.normal(1.2, 0.6, rows), rng.normal(3.8, 0.5, rows))
    statuses = rng.choice(STATUSES, rows)
    statuses[rng.random(rows) < nulls] = 2
    bad = statuses > 1
    lengths = np.where(bad, 0, 8 + longer * rng.gamma(3, 6, rows)).astype(np.int32)
    scores = np.where(bad, np.nan, humps + shift).astype(np.float32)
    return sketch_rows(scores, statuses, lengths, distinct=rows, gaps=np.empty(0))


def verdicts(found: list[DriftFigure]) -> dict[str, str]:
    return {figure.metric + ("" if figure.part == "all" else f" {figure.part}"): figure.verdict for figure in found}


@pytest.mark.parametrize("rows", [30, 300, 1_500, 20_000])
def test_healthy_nights_are_quiet(rows: int):
    """Of 200 pairs of nights of one population, at most two give an alert, in few rows and in many."""
    alerts = 0
    for seed in range(200):
        found = compare(night(rows, seed), night(rows, seed + 1_000), same_model=True)
        alerts += "FAIL" in verdicts(found).values()
    assert alerts <= 2


@pytest.mark.parametrize("rows", [500, 5_000])
@pytest.mark.parametrize(
    ("change", "metrics"),
    [
        ({"shift": 0.5}, ("drift_score_DISTANCE", "drift_score_psi")),
        ({"longer": 1.6}, ("drift_tokens_DISTANCE",)),
        ({"nulls": 0.15}, ("drift_rate NULL_INPUT", "drift_status_js")),
    ],
)
def test_what_moved_is_named(rows: int, change: dict, metrics: tuple[str, ...]):
    """Moved scores, longer texts and more nulls each raise their own alerts and no others'."""
    found = verdicts(compare(night(rows, 1, **change), night(rows, 2), same_model=True))
    distance = "ks" if rows <= KS_ROWS else "wasserstein"
    assert {name for name, verdict in found.items() if verdict == "FAIL"} == {
        name.replace("DISTANCE", distance) for name in metrics
    }


def test_psi_warns_before_it_alerts():
    """A population stability index between 0.1 and 0.25 is a warning."""
    found = {one.metric: one for one in compare(night(50_000, 1, shift=0.25), night(50_000, 2), same_model=True)}
    assert 0.1 < found["drift_score_psi"].value < 0.25
    assert found["drift_score_psi"].verdict == "WARN"


def test_distances_are_those_of_their_definitions():
    """KS, normed Wasserstein and Jensen-Shannon equal scipy's."""
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import ks_2samp, wasserstein_distance

    small, large = (night(400, 1, shift=0.3), night(600, 2)), (night(4_000, 1, shift=0.3), night(6_000, 2))

    def spread_out(counts: dict[str, int]) -> np.ndarray:
        return np.repeat([int(key) for key in counts], list(counts.values()))

    found = {one.metric: one.value for one in compare(*small, same_model=True)}
    assert found["drift_score_ks"] == pytest.approx(ks_2samp(*[spread_out(one.scores) for one in small]).statistic)
    shares = [[one.statuses[name] / one.rows for name in sorted(one.statuses)] for one in small]
    assert found["drift_status_js"] == pytest.approx(jensenshannon(*shares, base=2))
    found = {one.metric: one.value for one in compare(*large, same_model=True)}
    ours, theirs = (spread_out(one.scores) for one in large)
    assert found["drift_score_wasserstein"] == pytest.approx(
        wasserstein_distance(ours, theirs) / np.concatenate([ours, theirs]).std()
    )


@pytest.mark.parametrize(("share", "now", "before"), [(0.01, 20, 2_000), (0.002, 20, 2_000), (0.03, 100, 10_000)])
def test_rare_rows_raise_no_false_alarm(share: float, now: int, before: int):
    """Of 2,000 pairs of one population whose rare status has few rows, at most one in 500 gives an alert."""
    rng, alerts = np.random.default_rng(1), 0
    for ours, theirs in zip(
        rng.binomial(now, share, 2_000).tolist(), rng.binomial(before, share, 2_000).tolist(), strict=True
    ):
        nights = [
            Sketch(rows=rows, lengths={"9": rows}, statuses={"OK": rows - nulls, "NULL_INPUT": nulls})
            for rows, nulls in ((now, ours), (before, theirs))
        ]
        alerts += verdicts(compare(*nights, same_model=False))["drift_rate NULL_INPUT"] == "FAIL"
    assert alerts <= 4


def test_more_unknown_tokens_are_named():
    """Kind: text that the model cannot read. A rise of unknown tokens alerts; what was not counted is not compared."""
    read, unread = (
        Sketch(500, statuses={"OK": 500}, lengths={"9": 500}, text_tokens=9_000, unknown_tokens=n) for n in (9, 900)
    )
    found = {one.part: one for one in compare(unread, read, same_model=False)}["UNKNOWN_TOKENS"]
    assert (round(found.value, 3), found.verdict) == (0.099, "FAIL")
    assert verdicts(compare(read, unread, same_model=False))["drift_rate UNKNOWN_TOKENS"] == "PASS"
    old = Sketch(500, statuses={"OK": 500}, lengths={"9": 500})
    assert "drift_rate UNKNOWN_TOKENS" not in verdicts(compare(unread, old, same_model=False))


@pytest.mark.parametrize(("share", "now", "before"), [(0.02, 20, 2_000), (0.1, 300, 300)])
def test_unknown_tokens_of_few_texts_raise_no_false_alarm(share: float, now: int, before: int):
    """Of 2,000 pairs of one population in which a few texts are wholly unknown, at most one in 500 gives an alert."""
    rng, alerts = np.random.default_rng(3), 0
    for _ in range(2_000):
        nights = []
        for rows in (now, before):
            lengths, unknown = rng.integers(5, 15, rows), rng.random(rows) < share
            counts = {"text_tokens": int(lengths.sum()), "unknown_tokens": int(lengths[unknown].sum())}
            nights.append(Sketch(rows=rows, statuses={"OK": rows}, lengths={"9": rows}, **counts))
        alerts += verdicts(compare(*nights, same_model=False))["drift_rate UNKNOWN_TOKENS"] == "FAIL"
    assert alerts <= 4


def test_few_long_texts_raise_no_false_alarm():
    """Of 300 pairs of nights in which three texts of a thousand are very long, at most three give an alert."""
    rng, alerts = np.random.default_rng(2), 0
    for _ in range(300):
        sides = []
        for rows in (1_001, 1_001):
            lengths = np.where(rng.random(rows) < 0.003, 512, rng.integers(8, 14, rows)).astype(np.int32)
            sides.append(
                sketch_rows(np.zeros(rows, np.float32), np.zeros(rows, np.int8), lengths, distinct=rows, gaps=np.empty(0))
            )
        alerts += verdicts(compare(*sides, same_model=False))["drift_tokens_wasserstein"] == "FAIL"
    assert alerts <= 3


def test_another_model_s_scores_are_not_compared():
    """Where the model changed only texts and statuses are compared, since scores move with the model."""
    found = verdicts(compare(night(500, 1, shift=1.0), night(500, 2), same_model=False))
    assert not [name for name in found if "score" in name]
    assert "FAIL" not in found.values()


def test_fewer_nulls_are_no_alarm():
    """A share of nulls that falls passes."""
    found = verdicts(compare(night(5_000, 1), night(5_000, 2, nulls=0.1), same_model=True))
    assert found["drift_rate NULL_INPUT"] == "PASS"


def test_nothing_to_compare():
    """Without rows on either side there is no figure; a night whose rows are all null alerts by its statuses."""
    assert compare(Sketch(), night(50, 1), same_model=True) == []
    assert compare(night(50, 1), Sketch(), same_model=True) == []
    found = verdicts(compare(night(300, 1, nulls=1.0), night(300, 2), same_model=True))
    assert (found["drift_status_js"], found["drift_rate NULL_INPUT"]) == ("FAIL", "FAIL")
    assert "drift_tokens_ks" not in found
