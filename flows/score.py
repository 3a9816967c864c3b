"""Score a data set: plan, one task per shard, commit, report."""

import contextlib
import datetime as dt
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import TaskRun
from prefect.runtime import flow_run
from prefect.states import Completed, State
from prefect.tasks import Task

from flows import events
from flows.artifacts import publish_scores
from flows.parameters import Help, takes
from flows.timeout import rearm_timeout
from stsb_batch.errors import BusyError, StorageError, StsbBatchError, UnavailableError
from stsb_batch.fields import fields_of
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.models.registry import model_name
from stsb_batch.pairs.source import Shard
from stsb_batch.requests import ScoreRequest
from stsb_batch.schedule.pace import Pace
from stsb_batch.scoring import finish, job, plan
from stsb_batch.scoring.monitor import RunMonitor
from stsb_batch.scoring.shards import score_shards
from stsb_batch.scoring.spec import ScoreSpec, ShardResult
from stsb_batch.settings import load_settings

Deadline = Annotated[dt.datetime | None, Help("Moment by which the scores are needed; an alert when they will be late")]


def is_worth_retrying(_task: Task, _run: TaskRun, state: State) -> bool:
    """Say whether a failure may go away by itself: storage, a missing server, a held lock; bad data never does."""
    return isinstance(state.result(raise_on_failure=False), BusyError | StorageError | UnavailableError)


class Retried(TypedDict):
    retries: int
    retry_delay_seconds: list[float]
    retry_jitter_factor: float
    retry_condition_fn: Callable[[Task, TaskRun, State], bool]
    persist_result: bool


RETRIED: Retried = {
    "retries": 2,
    "retry_delay_seconds": [10, 60],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_worth_retrying,
    "persist_result": False,
}


def score_run_name() -> str:
    given = flow_run.parameters
    return f"score {given['location']} with {model_name(load_settings().home, given['model'])}"


@task(task_run_name="plan", **RETRIED)
def plan_job(request: ScoreRequest) -> plan.ScorePlan:
    """Check the request and cut the work into shards."""
    return plan.plan_score(request)


class ShardRuns:
    """Scores shards in one stream, so that each is prepared while the one before is scored, and gives them out one by one.

    After an error the stream is started anew, with the same model, from the shard that is asked for.
    """

    def __init__(self, spec: ScoreSpec, shards: list[Shard], monitor: RunMonitor) -> None:
        self._spec, self._shards, self._monitor = spec, shards, monitor
        self._scorer: PairScorer | None = None
        self._results = self._start(0)

    def _start(self, first: int) -> Generator[ShardResult, None, None]:
        return score_shards(self._spec, self._shards[first:], self._monitor, open_scorer=self._open_scorer)

    def _open_scorer(self, spec: ScoreSpec) -> PairScorer:
        self._scorer = self._scorer or spec.open_scorer()
        return self._scorer

    def score(self, output: Path) -> ShardResult:
        """Return the result of the shard with this output, once it is committed."""
        try:
            result = next(self._results, None)
        except Exception:
            self._results = self._start([shard.output for shard in self._shards].index(output))
            raise
        if result is None or result.output != output:
            raise StsbBatchError(f"bug: {output} was asked for out of order.")
        return result

    def close(self) -> None:
        self._results.close()


@task(task_run_name="score {output} ({rows} rows)", **RETRIED)
def score_shard(runs: ShardRuns, output: Path, rows: int) -> ShardResult:
    """Score one shard and commit its file; a file that turns out bad is left out."""
    return runs.score(output)


@task(task_run_name="commit and report", **RETRIED)
def finish_job(planned: plan.ScorePlan, scored: list[ShardResult]) -> finish.ScoreOutcome:
    """Write report, manifest and `_SUCCESS`."""
    return finish.finish_job(planned, scored)


def watch(pace: Pace) -> Callable[[RunMonitor], None]:
    """Return what watches a run: a line in the log each minute, and one event when it will be late."""
    log, late = get_run_logger(), list[str]()

    def on_progress(monitor: RunMonitor) -> None:
        line = pace.update(monitor.rows)
        if line is None:
            return
        log.info(line)
        if pace.is_late() and not late:
            late.append(line)
            events.emit(events.LATE, line)

    return on_progress


# One shard after the other, in this thread: a shard already keeps all cores or the whole GPU busy, and here a signal or
# the timeout ends it at once.
@flow(name="score", flow_run_name=score_run_name, persist_result=False)
@takes(fields_of(ScoreRequest), deadline=(Deadline, None))
def score_flow(given: dict[str, Any]) -> State:
    """Score everything at `location`; return where the files are, how many rows there were, and the exit code for that."""
    rearm_timeout()
    deadline = given.pop("deadline")
    planned = plan_job(ScoreRequest(**given))
    with job.open_job(planned) as pending:
        rows = sum(shard.rows for shard in pending)
        monitor = RunMonitor(rows, watch(Pace(rows, deadline)))
        with contextlib.closing(ShardRuns(planned.spec, pending, monitor)) as runs:
            scored = [job.check_result(planned, score_shard(runs, shard.output, shard.rows)) for shard in pending]
            outcome = finish_job(planned, scored)
    publish_scores(outcome, planned)
    if line := outcome.explain():
        get_run_logger().warning(line)
    if many := outcome.warnings.get(finish.MANY_BAD_ROWS):
        events.emit(events.BAD_ROWS, f"{many} ({given['location']})")
    done = {
        "output": str(outcome.target.name),
        "rows": outcome.rows,
        "rows_without_score": outcome.bad_rows,
        "files_left_out": len(outcome.bad_files),
        "warnings": list(outcome.warnings),
        "exit_code": outcome.exit_code(),
    }
    return Completed(name=", ".join(["Completed", *outcome.warnings]), data=done)
