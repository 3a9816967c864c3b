"""Text columns in, scores in input order out."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stsb_batch.errors import ModelIntegrityError
from stsb_batch.inference.dispatch import TokenBudget
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.pairs.schema import EMPTY_INPUT, NONFINITE, NULL_INPUT, OK, OK_TRUNCATED
from tests.builders import make_pairs, tokenizer
from tests.fakes import FakeEngine, NanEngine

CELL = st.one_of(st.none(), st.sampled_from(["", " ", "red pump", "blue pump", "a", "city " * 40]), st.text(max_size=20))


def scorer(engine: FakeEngine | None = None, max_tokens: int = 256) -> PairScorer:
    return PairScorer(tokenizer(), engine or FakeEngine(), FakeEngine, TokenBudget(max_tokens))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), max_size=60), st.integers(16, 600))
def test_each_row_gets_its_own_score(rows: list[tuple[str | None, str | None]], max_tokens: int):
    """A row's score is that of the row alone (law 3), null exactly where the status is not OK (law 4)."""
    left, right = pa.array([r[0] for r in rows], pa.string()), pa.array([r[1] for r in rows], pa.string())
    together = scorer(max_tokens=max_tokens).score(left, right)
    for row in range(len(rows)):
        alone = scorer().score(left.slice(row, 1), right.slice(row, 1))
        assert alone.statuses[0] == together.statuses[row]
        assert np.array_equal(alone.scores, together.scores[row : row + 1], equal_nan=True)
    assert np.array_equal(np.isfinite(together.scores), np.isin(together.statuses, (OK, OK_TRUNCATED)))


def test_batches_keep_to_the_token_budget_and_equal_pairs_run_once():
    """The engine sees each distinct pair once, in rectangles within the budget."""
    frame = make_pairs(300)
    engine = FakeEngine()
    doubled = pa.array(frame["sentence1"].to_list() * 2), pa.array(frame["sentence2"].to_list() * 2)
    scored = scorer(engine).score(*doubled)
    assert sum(rows for rows, _ in engine.shapes) == scored.distinct <= 300
    assert all(rows * tokens <= 256 for rows, tokens in engine.shapes)
    assert np.array_equal(scored.scores[:300], scored.scores[300:])


def test_progress_counts_every_row_once():
    """Progress adds up to all rows, also those without a score and those that are equal."""
    seen = []
    scorer().score(pa.array(["a", None, "a", "b"]), pa.array(["x", "x", "x", ""]), lambda rows, _: seen.append(rows))
    assert sum(seen) == 4


def test_nonfinite_scores_are_tried_again_in_fp32():
    """NaN from the engine is replaced by the fp32 engine's score; NaN there too is NONFINITE, with a null score."""
    left, right = pa.array(["red", "blue"]), pa.array(["red", "pump"])
    rescued = PairScorer(tokenizer(), NanEngine(), FakeEngine, TokenBudget(256)).score(left, right)
    assert np.isfinite(rescued.scores).all()
    lost = PairScorer(tokenizer(), NanEngine(), NanEngine, TokenBudget(256)).score(left, right)
    assert lost.statuses.tolist() == [NONFINITE] * 2
    assert np.isnan(lost.scores).all()


def test_long_pair_is_scored_on_cut_text():
    """Of a 10 MB cell the first tokens are scored, and it is marked where there were more; one long word is one token."""
    big = ["x" * 10_000_000, "word " * 2_000_000]
    scored = PairScorer(tokenizer(64), FakeEngine(), FakeEngine, TokenBudget(256)).score(pa.array(big), pa.array(["a", "b"]))
    assert scored.statuses.tolist() == [OK, OK_TRUNCATED]
    assert scored.lengths.tolist() == [5, 64]


@pytest.mark.parametrize("between", [" ", "\u0301 ", " \u200b", "\x07 ", " \u2066"], ids=ascii)
def test_what_has_no_tokens_costs_no_words(between: str):
    """Kind: words lost beyond a limit of characters, though few tokens are used. All words count, and nothing is cut."""
    long = "red" + between * 40_000 + "pump"
    scored = PairScorer(tokenizer(64), FakeEngine(), FakeEngine, TokenBudget(256)).score(
        pa.array([long, "red pump", between * 40_000 + "red pump"]), pa.array(["blue pump"] * 3)
    )
    assert scored.statuses.tolist() == [OK] * 3
    assert len(set(scored.scores.tolist())) == 1


NOTHING_LEFT = ["\u0301\u0327", "\ufffd", "\ue000", "\u2066\u0301", "\u0301" * 40_000]


@pytest.mark.parametrize("fast", [True, False], ids=["chunks", "reference"])
@pytest.mark.parametrize("text", NOTHING_LEFT, ids=lambda text: ascii(text[:2]))
def test_nothing_that_the_tokeniser_keeps_is_empty(text: str, fast: bool):
    """Kind: invisible text judged unevenly. Without a token a text is EMPTY_INPUT, and its pair never meets the model."""
    engine = FakeEngine()
    texts, others = pa.array([text, "a", None, text, "red"]), pa.array(["b", text, text, text, "pump"])
    seen = []
    scored = PairScorer(tokenizer(64, fast=fast), engine, FakeEngine, TokenBudget(256)).score(
        texts, others, lambda rows, _: seen.append(rows)
    )
    assert scored.statuses.tolist() == [EMPTY_INPUT, EMPTY_INPUT, NULL_INPUT, EMPTY_INPUT, OK]
    assert np.isnan(scored.scores[:4]).all()
    assert scored.lengths[:4].tolist() == [0] * 4
    assert engine.shapes == [(1, 5)]
    assert scored.distinct == 1
    assert sum(seen) == 5


def test_unknown_text_is_not_empty():
    """What the tokeniser keeps only as unknown is scored, and counted for each row that has it."""
    left, right = pa.array(["🚲", "🚲", "red pump"]), pa.array(["🚲 red", "🚲 red", "red"])
    scored = scorer().score(left, right)
    assert scored.statuses.tolist() == [OK] * 3
    assert (scored.unknown, scored.text_tokens) == (4, 9)


def test_a_score_that_fp32_refuses_stops_the_run():
    """Where the reference has no score there is no parity."""
    with pytest.raises(ModelIntegrityError, match="tokeniser and model do not fit together"):
        PairScorer(tokenizer(), FakeEngine(), NanEngine, TokenBudget(256)).score(pa.array(["red"]), pa.array(["pump"]))


class Skewed(FakeEngine):
    """An engine that is wrong by a tenth of a point."""

    def score(self, batch):
        return super().score(batch) + np.float32(0.1)


def test_engine_that_is_wrong_stops_the_run():
    """A gap to fp32 beyond rounding ends the run with the engine's name, unless parity is switched off."""
    left, right = pa.array(["red pump"] * 5), pa.array(["blue pump", "a", "b", "c", "d"])
    skewed = PairScorer(tokenizer(), Skewed(), FakeEngine, TokenBudget(256))
    with pytest.raises(ModelIntegrityError, match=r"fake fp32 on cpu gives scores up to 0\.1.*--no-parity"):
        skewed.score(left, right)
    accepted = PairScorer(tokenizer(), Skewed(), FakeEngine, TokenBudget(256), parity=False)
    scored = accepted.score(left, right)
    assert len(accepted.parity_gaps(accepted.prepare(left, right), scored)) == 0
    assert np.isfinite(scored.scores).all()


def test_parity_looks_at_short_and_long_pairs():
    """Up to four pairs each of four lengths are scored again, the shortest and the longest among them."""
    reference, frame = FakeEngine(), make_pairs(300)
    checked = PairScorer(tokenizer(), FakeEngine(), lambda: reference, TokenBudget(256))
    columns = pa.array(frame["sentence1"]), pa.array(frame["sentence2"])
    lengths = checked.score(*columns).lengths
    assert len(reference.shapes) == 4
    assert [rows for rows, _ in reference.shapes][1:3] == [4, 4]
    assert {lengths.min(), lengths.max()} <= {length for _, length in reference.shapes}
    few = tuple(column.slice(0, 3) for column in columns)
    assert checked.parity_gaps(checked.prepare(*few), checked.score(*few)).tolist() == [0.0] * 3
