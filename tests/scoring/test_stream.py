"""The line of a job: what its threads hand on keeps its order, an error comes out in its shard's turn and harms no other."""

import time
from dataclasses import replace
from pathlib import Path
from threading import Event, get_ident

import polars as pl
import pytest

from stsb_batch.errors import BadFileError
from stsb_batch.inference.dispatch import TokenBudget
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.pairs import source
from stsb_batch.pairs.source import Shard
from stsb_batch.scoring.plan import ScorePlan, plan_score
from stsb_batch.scoring.stream import Line, ahead
from tests.builders import make_pairs, score_request, tokenizer
from tests.fakes import FakeEngine, SmallDevice


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_whoever_is_first(workers: int):
    """Items that take longer do not let later ones pass; items and work have threads of their own."""
    threads = set()

    def work(number: int) -> int:
        threads.add(get_ident())
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * 10

    with ahead(iter(range(9)), work, workers) as results:
        assert list(results) == [number * 10 for number in range(9)]
    assert get_ident() not in threads
    assert len(threads) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_is_taken_than_is_needed_ahead(workers: int):
    """While one result is used, `workers` more are made and one item beyond them is taken: memory stays bounded."""
    taken, enough = [], Event()

    def items():
        for number in range(50):
            taken.append(number)
            if number == workers + 1:
                enough.set()
            yield number

    with ahead(items(), lambda number: number, workers) as results:
        assert next(results) == 0
        assert enough.wait(10)
        time.sleep(0.05)
        assert len(taken) == workers + 2


def broken():
    yield 1
    raise OSError("gone")


def test_errors_come_out_in_their_turn():
    """What fails in another thread is raised where the results are taken."""
    with ahead(broken(), lambda number: number, 1) as results, pytest.raises(OSError, match="gone"):
        list(results)
    with ahead(iter([4, 0]), lambda number: 4 // number, 1) as results:
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_no_items_give_no_results():
    """An empty input is no error."""
    with ahead(iter([]), lambda number: number, 2) as results:
        assert list(results) == []


@pytest.fixture
def plan(tmp_path: Path, bert: Path) -> ScorePlan:
    """Four files, the third of them empty, in windows of 25 rows."""
    for number, rows in enumerate((70, 40, 0, 60)):
        path = tmp_path / f"in/{number}.parquet"
        path.parent.mkdir(exist_ok=True)
        make_pairs(rows or 1, seed=number).head(rows).write_parquet(path)
    found = plan_score(score_request(tmp_path / "in", bert))
    shards = [replace(shard, source=replace(shard.source, window_rows=25)) for shard in found.shards]
    return replace(found, shards=shards)


def line_of(plan: ScorePlan, engine: FakeEngine | None = None) -> Line:
    scorer = PairScorer(tokenizer(), engine or FakeEngine(), FakeEngine, TokenBudget(64))
    return Line(plan, plan.shards, lambda: scorer)


def taken(line: Line, shard: Shard) -> list[float]:
    line.begin(shard)
    parts = list(line.take(shard, lambda rows, tokens: None))
    assert [part.window.first_row for part in parts] == list(range(0, shard.rows, 25))
    return [score for part in parts for score in part.scored.scores]


def expected(shard: Shard) -> list[float]:
    frame = pl.read_parquet(shard.source.path)
    columns = (frame[name].to_arrow() for name in ("sentence1", "sentence2"))
    return list(PairScorer(tokenizer(), FakeEngine(), FakeEngine, TokenBudget(64)).score(*columns).scores)


def test_each_shard_has_its_own_scores(plan: ScorePlan):
    """In the order of the plan, and again for a shard that is asked for once more."""
    with line_of(plan) as line:
        for shard in [*plan.shards, plan.shards[1], plan.shards[0], plan.shards[3]]:
            assert taken(line, shard) == expected(shard)


def test_the_next_shard_is_under_way_while_one_is_committed(plan: ScorePlan):
    """When the last window of a shard is handed over, the device already has batches of the next one."""
    engine = SmallDevice(64, depth=3)
    first, second = plan.shards[:2]
    with line_of(plan, engine) as line:
        assert taken(line, first) == expected(first)
        assert engine.under_way == 3
        assert taken(line, second) == expected(second)
    assert engine.under_way == 0


def test_an_error_is_raised_in_its_shard_s_turn(plan: ScorePlan, monkeypatch: pytest.MonkeyPatch):
    """A file that cannot be read costs its own shard, which can be tried again; those before and after it are scored."""
    real, tries = source.read_windows, []

    def broken(shard: Shard, names: list[str] | None):
        if shard == plan.shards[1]:
            windows = real(shard, names)
            yield next(windows)
            tries.append(shard)
            if len(tries) < 3:
                raise BadFileError("IO", "1.parquet: IO, gone")
            yield from windows
        else:
            yield from real(shard, names)

    monkeypatch.setattr(source, "read_windows", broken)
    first, second, empty, last = plan.shards
    with line_of(plan) as line:
        assert taken(line, first) == expected(first)
        for _ in range(2):
            with pytest.raises(BadFileError, match="gone"):
                taken(line, second)
        assert taken(line, last) == expected(last)
        assert taken(line, second) == expected(second)
        assert taken(line, empty) == []


def test_a_pair_that_cannot_be_tokenised_is_an_error_of_its_shard(plan: ScorePlan, monkeypatch: pytest.MonkeyPatch):
    """What fails in a thread that tokenises is raised in the turn of the shard it was for."""
    first, second = plan.shards[:2]
    with line_of(plan) as line:
        real = PairScorer.prepare

        def failing(scorer: PairScorer, left, *rest):
            if left[0].as_py() == pl.read_parquet(second.source.path)["sentence1"][0]:
                raise MemoryError("no more")
            return real(scorer, left, *rest)

        monkeypatch.setattr(PairScorer, "prepare", failing)
        assert taken(line, first) == expected(first)
        with pytest.raises(MemoryError, match="no more"):
            taken(line, second)


def test_who_leaves_in_the_middle_of_a_shard_can_begin_it_again(plan: ScorePlan):
    """Windows that were not taken are not given to the next try."""
    with line_of(plan) as line:
        line.begin(plan.shards[0])
        parts = line.take(plan.shards[0], lambda rows, tokens: None)
        next(parts)
        parts.close()
        assert taken(line, plan.shards[0]) == expected(plan.shards[0])
        assert taken(line, plan.shards[1]) == expected(plan.shards[1])
