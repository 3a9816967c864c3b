"""score_shards: each shard has its own scores, an error comes out in its shard's turn and harms no other."""

import contextlib
import pickle
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from stsb_batch.errors import BadDataError, DeviceLostError
from stsb_batch.inference.dispatch import TokenBudget
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.pairs import sink
from stsb_batch.pairs.source import Shard
from stsb_batch.scoring.monitor import RunMonitor
from stsb_batch.scoring.plan import ScorePlan, plan_score
from stsb_batch.scoring.shards import score_shards
from stsb_batch.scoring.spec import ScoreSpec, ShardResult
from tests.builders import make_pairs, score_request, tokenizer
from tests.fakes import FakeEngine, SmallDevice


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


def run(plan: ScorePlan, engine: FakeEngine | None = None, shards: list[Shard] | None = None, monitor=None):
    scorer = PairScorer(tokenizer(), engine or FakeEngine(), FakeEngine, TokenBudget(64))
    shards = plan.shards if shards is None else shards
    return score_shards(plan.spec, shards, monitor or RunMonitor(), open_scorer=lambda spec: scorer)


def scores(plan: ScorePlan, result: ShardResult) -> list[float]:
    assert result.committed == sink.committed(plan.target.path(result.output))
    return pl.read_parquet(plan.target.path(result.output), glob=False)["score"].to_list()


def expected(shard: Shard) -> list[float]:
    frame = pl.read_parquet(shard.source.path, glob=False)
    columns = (frame[name].to_arrow() for name in ("sentence1", "sentence2"))
    return list(PairScorer(tokenizer(), FakeEngine(), FakeEngine, TokenBudget(64)).score(*columns).scores)


def test_each_shard_has_its_own_scores(plan: ScorePlan):
    """Results come in the order of the shards, each committed; so do those of a call with some of them again."""
    for shards in (plan.shards, [plan.shards[1]], [plan.shards[3], plan.shards[0]], []):
        results = list(run(plan, shards=shards))
        assert [result.output for result in results] == [shard.output for shard in shards]
        assert [scores(plan, result) for result in results] == [expected(shard) for shard in shards]


def test_spec_and_shards_are_small_and_pickle(plan: ScorePlan):
    """Another process can score from a spec and a shard of a few kB, and hands a small result back."""
    spec, shards = plan.spec, plan.shards
    assert len(pickle.dumps(spec)) < 4_096
    assert all(len(pickle.dumps(shard)) < 4_096 for shard in shards)
    assert pickle.loads(pickle.dumps((spec, shards))) == (spec, shards)  # noqa: S301 - our own
    (result,) = run(plan, shards=[pickle.loads(pickle.dumps(shards[0]))])  # noqa: S301 - our own
    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301 - our own


def test_a_bad_file_s_error_pickles(plan: ScorePlan):
    """The result of a file that turned out bad keeps its reason, message and exit code in another process."""
    plan.shards[0].source.path.write_bytes(b"gone")
    (result,) = run(plan, shards=plan.shards[:1])
    copy = pickle.loads(pickle.dumps(result)).bad_file  # noqa: S301 - our own
    error = result.bad_file.error
    assert (copy.relative, copy.error.reason, str(copy.error)) == (Path("0.parquet"), "INPUT_CHANGED", str(error))
    assert copy.error.exit_code == error.exit_code


def test_the_model_is_opened_once_and_only_for_rows(plan: ScorePlan):
    """A shard without rows needs no model."""
    opened = []

    def open_scorer(spec: ScoreSpec) -> PairScorer:
        opened.append(spec)
        return PairScorer(tokenizer(), FakeEngine(), FakeEngine, TokenBudget(64))

    (result,) = score_shards(plan.spec, [plan.shards[2]], RunMonitor(), open_scorer=open_scorer)
    assert (result.committed.rows, opened) == (0, [])
    assert len(list(score_shards(plan.spec, plan.shards, RunMonitor(), open_scorer=open_scorer))) == 4
    assert opened == [plan.spec]


def test_the_next_shard_is_in_flight_while_one_is_committed(plan: ScorePlan):
    """When a shard's result is handed over, the device already has batches of the next one; at the end it has none."""
    engine = SmallDevice(64, depth=3)
    with contextlib.closing(run(plan, engine)) as results:
        assert scores(plan, next(results)) == expected(plan.shards[0])
        assert engine.under_way == 3
    assert engine.under_way == 0
    assert not plan.target.path(plan.shards[3].output).exists()


def test_a_file_that_turns_out_bad_costs_its_own_shard(plan: ScorePlan):
    """A file that changes after the plan is a result of its own, nothing of it appears, and the others are scored."""
    first, second, _, last = plan.shards
    second.source.path.write_bytes(second.source.path.read_bytes()[:-40] + b"x" * 40)
    results = list(run(plan))
    assert [result.bad_file is None for result in results] == [True, False, True, True]
    assert results[1].bad_file.error.reason == "INPUT_CHANGED"
    assert not plan.target.path(second.output).exists()
    assert not list(plan.target.staging.rglob("*.inprogress"))
    assert scores(plan, results[0]) == expected(first)
    assert scores(plan, results[3]) == expected(last)
    assert scores(plan, next(run(plan, shards=[first]))) == expected(first)


class LostAfter(FakeEngine):
    """An engine whose device is lost after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._batches = batches

    def score(self, batch):
        if len(self.shapes) == self._batches:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return super().score(batch)


def test_what_was_yielded_before_an_error_is_committed(plan: ScorePlan):
    """An error that ends the run comes out in its shard's turn; a call with the rest goes on."""
    engine = FakeEngine()
    list(run(plan, engine, plan.shards[:1]))
    results, done = run(plan, LostAfter(len(engine.shapes) + 2)), []
    with pytest.raises(DeviceLostError):
        done.extend(iter(results.__next__, None))
    done = [shard for shard in plan.shards if plan.target.path(shard.output).exists()]
    assert done == plan.shards[:1]
    rest = list(run(plan, shards=plan.shards[1:]))
    assert [scores(plan, result) for result in rest] == [expected(shard) for shard in plan.shards[1:]]


def test_rows_beyond_the_limit_end_the_run(plan: ScorePlan):
    """Bad rows of one shard that alone exceed the run's limit are an error, and nothing of the shard appears."""
    strict = replace(plan.spec, row_limit=replace(plan.row_limit, allowed=0))
    frame = pl.read_parquet(plan.shards[1].source.path, glob=False)
    frame.with_columns(sentence1=pl.lit(None, pl.String)).write_parquet(plan.shards[1].source.path)
    again = replace(plan_score(plan.request), target=plan.target)
    scorer = PairScorer(tokenizer(), FakeEngine(), FakeEngine, TokenBudget(64))
    results = score_shards(strict, again.shards, RunMonitor(), open_scorer=lambda _: scorer)
    assert next(results).output == again.shards[0].output
    with pytest.raises(BadDataError, match="40 rows have no score"):
        list(results)
    assert not plan.target.path(again.shards[1].output).exists()


def test_the_monitor_counts_each_row_once(plan: ScorePlan):
    """Rows add up over shards, the first score has a moment, and who watches hears of it from the start."""
    seen = []
    monitor = RunMonitor(170, lambda monitor: seen.append(monitor.rows))
    list(run(plan, monitor=monitor))
    assert (seen[0], seen[-1], monitor.rows) == (0, 170, 170)
    assert monitor.tokens > 0
    assert monitor.first_score_at > plan.spec.requested_at
