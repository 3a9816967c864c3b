"""A forward pass that fails costs as few rows as can be, and the others keep their scores and order."""

import numpy as np
import pyarrow as pa
import pytest

from stsb_batch.errors import DeviceLostError, first_line
from stsb_batch.inference.dispatch import MIN_TOKENS, TokenBudget
from stsb_batch.inference.engines import EngineChoice
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.pairs.schema import MODEL_ERROR, OK, OOM
from tests.builders import make_pairs, tokenizer
from tests.fakes import FakeEngine, SmallDevice


class SmallPacking(FakeEngine):
    """An engine that takes packed batches and runs out of memory above some tokens."""

    packs = True

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self._tokens = tokens

    def score(self, batch):
        size = (len(batch.numbers) - 2 * batch.capacity) // 3
        self.shapes.append((batch.capacity, size))
        if size > self._tokens:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        starts, lengths = batch.numbers[3 * size :].reshape(2, batch.capacity)
        sums = [batch.numbers[start : start + length].sum() for start, length in zip(starts, lengths, strict=True)]
        return (np.array(sums) / np.maximum(lengths, 1) % 5).astype(np.float32)


class Poisoned(FakeEngine):
    """An engine whose forward pass fails on any batch that holds a certain token."""

    def __init__(self, token: int) -> None:
        super().__init__()
        self._token = token

    def score(self, batch):
        if (batch.input_ids == self._token).any():
            raise ValueError("index out of range in self")
        return super().score(batch)


def columns(rows: int) -> tuple[pa.Array, pa.Array]:
    frame = make_pairs(rows)
    return pa.array(frame["sentence1"].to_list()), pa.array(frame["sentence2"].to_list())


def scored_by(engine: FakeEngine, budget: TokenBudget, pairs: tuple[pa.Array, pa.Array]):
    return PairScorer(tokenizer(), engine, FakeEngine, budget).score(*pairs)


@pytest.mark.parametrize("depth", [1, 3])
def test_out_of_memory_halves_the_batch_and_keeps_order(depth: int):
    """Scores and order are those of a large device, and the ceiling that was found holds for later windows."""
    pairs, budget, engine = columns(2_000), TokenBudget(4096), SmallDevice(600, depth=depth)
    scored = scored_by(engine, budget, pairs)
    assert np.array_equal(scored.scores, scored_by(FakeEngine(), TokenBudget(4096), pairs).scores)
    assert budget.tokens <= 600
    tried = len(engine.shapes)
    scored_by(engine, budget, pairs)
    assert max(rows * length for rows, length in engine.shapes[tried:]) <= 600


@pytest.mark.parametrize("tokens", [256, 100])
def test_device_has_work_between_windows(tokens: int):
    """A window's first batches start before the last ones of the window before are asked for; each keeps its scores."""
    windows, engine = [columns(300), columns(40), columns(200), columns(0)], SmallDevice(tokens, depth=3)
    scorer, seen, under_way = PairScorer(tokenizer(), engine, FakeEngine, TokenBudget(256)), [], []
    prepared = (scorer.prepare(*pairs) for pairs in windows)
    for number, scored in scorer.score_windows(enumerate(prepared), lambda rows, _: seen.append(rows)):
        under_way.append(engine.under_way)
        assert np.array_equal(scored.scores, scored_by(FakeEngine(), TokenBudget(256), windows[number]).scores)
    assert under_way == [3, 3, 0, 0]
    assert sum(seen) == 540


def test_windows_left_in_the_middle_leave_nothing_under_way():
    """Who stops taking scores, or whose windows end in an error, finds the engine free."""
    engine = SmallDevice(256, depth=3)
    scorer = PairScorer(tokenizer(), engine, FakeEngine, TokenBudget(256))
    results = scorer.score_windows((number, scorer.prepare(*columns(100))) for number in range(3))
    next(results)
    assert engine.under_way == 3
    results.close()
    assert engine.under_way == 0

    def broken():
        yield 0, scorer.prepare(*columns(100))
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        next(scorer.score_windows(broken()))
    assert engine.under_way == 0


class Ahead(SmallPacking):
    """An engine on a device: what it scores must have been staged, and of that it keeps the size."""

    choice = EngineChoice("fake", "cuda", "fp16")

    def __init__(self, tokens: int, capacity: int = 1_000) -> None:
        super().__init__(tokens)
        self.staged, self._capacity = [], capacity

    def stage(self, batch):
        if len(self.staged) >= self._capacity:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.staged.append((len(batch.numbers) - 2 * batch.capacity) // 3)
        return [batch]

    def submit(self, batch):
        return super().submit(*batch)


def test_batches_are_staged_by_whoever_prepares():
    """On a device all batches of a window are there before the first is started; each is staged once."""
    engine, pairs = Ahead(4_096), columns(500)
    scorer = PairScorer(tokenizer(), engine, FakeEngine, TokenBudget(512))
    prepared = scorer.prepare(*pairs)
    assert len(engine.staged) > 3
    assert not engine.shapes
    ((_, scored),) = scorer.score_windows([(0, prepared)])
    assert len(engine.staged) == len(engine.shapes)
    assert np.array_equal(scored.scores, scored_by(FakeEngine(), TokenBudget(512), pairs).scores)


def test_what_was_staged_before_memory_ran_out_is_staged_anew():
    """A window that was prepared while batches were too large is cut again before it starts."""
    engine, windows = Ahead(600), [columns(300), columns(200)]
    scorer = PairScorer(tokenizer(), engine, FakeEngine, TokenBudget(2_048))
    prepared = [scorer.prepare(*pairs) for pairs in windows]
    for number, scored in scorer.score_windows(enumerate(prepared)):
        assert np.array_equal(scored.scores, scored_by(FakeEngine(), TokenBudget(512), windows[number]).scores)
    assert sum(size > 600 for _, size in engine.shapes) <= 2


def test_what_cannot_be_staged_ahead_is_staged_in_its_turn():
    """A device that is full while a window is prepared costs no row."""
    engine, pairs = Ahead(4_096, capacity=2), columns(500)
    scorer = PairScorer(tokenizer(), engine, FakeEngine, TokenBudget(512))
    prepared = scorer.prepare(*pairs)
    assert len(engine.staged) == 2
    engine._capacity = 1_000
    ((_, scored),) = scorer.score_windows([(0, prepared)])
    assert np.array_equal(scored.scores, scored_by(FakeEngine(), TokenBudget(512), pairs).scores)


def test_packed_batches_have_one_size_and_shrink_when_memory_runs_out():
    """All batches are filled up to the budget's size; where that is too much they are halved; the scores are the same."""
    pairs, engine = columns(2_000), SmallPacking(2_000)
    expected = scored_by(FakeEngine(), TokenBudget(4096), pairs).scores
    scored = scored_by(engine, TokenBudget(1_500), pairs)
    assert np.array_equal(scored.scores, expected)
    assert set(engine.shapes) == {(187, 1_500)}
    assert scored.model_tokens == 1_500 * len(engine.shapes)
    assert 0 < scored.padding < 0.03 * scored.model_tokens
    budget = TokenBudget(4_096)
    assert np.array_equal(scored_by(engine, budget, pairs).scores, expected)
    assert 900 <= budget.tokens <= 2_000


def test_row_that_does_not_fit_alone_is_oom():
    """A device too small for the longest rows costs these rows; the budget stops shrinking at its floor."""
    pairs, budget = columns(100), TokenBudget(4096)
    scored = scored_by(SmallDevice(24), budget, pairs)
    assert set(scored.statuses) == {OK, OOM}
    assert np.array_equal(np.isnan(scored.scores), scored.statuses == OOM)
    assert scored.lengths[scored.statuses == OK].max() <= 24 < scored.lengths[scored.statuses == OOM].min()
    assert budget.tokens == MIN_TOKENS


def test_row_that_breaks_the_model_costs_itself_only():
    """The row that fails is found by halving; all others have their scores."""
    left, right = columns(100)
    token = tokenizer().encode(pa.array(["guitar"], pa.large_string()), pa.array(["a"], pa.large_string())).ids[1]
    scored = scored_by(Poisoned(token), TokenBudget(1024), (left, right))
    poisoned = np.array(["guitar" in f"{a} {b}" for a, b in zip(left.to_pylist(), right.to_pylist(), strict=True)])
    assert 0 < poisoned.sum() < 100
    assert np.array_equal(scored.statuses == MODEL_ERROR, poisoned)
    assert np.array_equal(np.isnan(scored.scores), poisoned)


@pytest.mark.parametrize("words", ["CUDA error: an illegal memory access was encountered", "CUDA error: device-side assert"])
def test_lost_device_ends_the_process_work(words: str):
    """An error after which nothing works any more is not tried row by row."""
    engine = SmallDevice(0, words)
    with pytest.raises(DeviceLostError, match="CUDA error"):
        scored_by(engine, TokenBudget(512), columns(50))
    assert len(engine.shapes) == 1


def test_nothing_is_left_under_way_after_an_error():
    """Batches that were started before the error are waited for."""
    engine = SmallDevice(0, "CUDA error: unspecified launch failure", depth=3)
    with pytest.raises(DeviceLostError):
        scored_by(engine, TokenBudget(64), columns(50))
    assert engine.under_way == 0
    assert len(engine.shapes) == 3


def test_fixed_shapes_fill_each_batch_up():
    """All batches of a length have as many rows, a multiple of 8, and the scores are those of batches as they come."""
    pairs, engine = columns(300), FakeEngine()
    fixed = scored_by(engine, TokenBudget(512, fixed_shapes=True), pairs)
    shapes = {tuple(shape) for shape in engine.shapes}
    assert len(shapes) == len({length for _, length in shapes})
    assert all(rows % 8 == 0 and 0 <= rows - 512 // length < 8 for rows, length in shapes)
    assert np.array_equal(fixed.scores, scored_by(FakeEngine(), TokenBudget(512), pairs).scores)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("\n  index out of range\nin self", "index out of range"),
        ("Exception from src/core/node.cpp:8:\nException from src/cpu/fc.cpp:9:\nno such kernel\n", "no such kernel"),
        ("Exception from src/core/node.cpp:8:\n", "RuntimeError"),
        ("", "RuntimeError"),
        ("x" * 300, "x" * 200),
    ],
)
def test_first_line_of_an_error_is_one_that_says_something(words: str, told: str):
    """OpenVINO puts places of its source before the cause, others an empty line; an error without words is its kind."""
    assert first_line(RuntimeError(words)) == told
