"""Score a data set: plan, one task per shard, commit, report."""

import contextlib
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run
from prefect.states import Completed, State

from flows import events
from flows.artifacts import publish_scores
from flows.limit import insist_on_limit
from flows.parameters import (
    DoneByMoment,
    Label,
    LabelScale,
    Left,
    Location,
    MaxBadFiles,
    MaxBadRows,
    Model,
    Right,
    ScoreOutput,
    Strictness,
    WarnBadRows,
)
from stsb_batch.errors import BusyError, StorageError, StsbBatchError, UnavailableError
from stsb_batch.models.registry import model_name
from stsb_batch.pairs.label_scale import parse_scale
from stsb_batch.pairs.schema import Columns
from stsb_batch.pairs.source import Shard
from stsb_batch.schedule.pace import Pace
from stsb_batch.scoring import finish, plan
from stsb_batch.scoring import job as score
from stsb_batch.scoring.monitor import RunMonitor
from stsb_batch.scoring.shards import score_shards
from stsb_batch.scoring.spec import ScoreSpec, ShardResult
from stsb_batch.settings import load_settings


def is_worth_retrying(_task, _run, state) -> bool:
    """Say whether a failure may go away by itself: storage, a missing server, a held lock; bad data never does."""
    return isinstance(state.result(raise_on_failure=False), BusyError | StorageError | UnavailableError)


RETRIED = {
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
def plan_job(request: plan.ScoreRequest) -> plan.ScorePlan:
    """Check the request and cut the work into shards."""
    return plan.plan_score(request)


class ShardRuns:
    """Scores shards in one stream, so that each is prepared while the one before is scored, and gives them out one by one.

    After an error the stream is started anew, with the same model, from the shard that is asked for.
    """

    def __init__(self, spec: ScoreSpec, shards: list[Shard], monitor: RunMonitor) -> None:
        self._spec, self._shards, self._monitor = spec, shards, monitor
        self._open_scorer = cache(ScoreSpec.open_scorer)
        self._results = self._start(0)

    def _start(self, first: int) -> Generator[ShardResult, None, None]:
        return score_shards(self._spec, self._shards[first:], self._monitor, open_scorer=self._open_scorer)

    def score(self, output: Path) -> ShardResult:
        """Return the result of the shard with this output, once it is committed."""
        try:
            result = next(self._results, None)
        except Exception:
            names = [shard.output for shard in self._shards]
            self._results = self._start(names.index(output))
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
def finish_job(job: plan.ScorePlan, scored: list[ShardResult]) -> finish.ScoreOutcome:
    """Write report, manifest and `_SUCCESS`."""
    return finish.finish_job(job, scored)


def watch(pace: Pace) -> Callable[[RunMonitor], None]:
    """Return what watches a run: a line in the log each minute, and one event when it will be late."""
    log, late = get_run_logger(), []

    def on_progress(monitor: RunMonitor) -> None:
        line = pace.update(monitor.rows)
        if line is None:
            return
        log.info(line)
        if pace.is_late() and not late:
            late.append(line)
            events.tell(events.LATE, line)

    return on_progress


# One shard after the other, in this thread: a shard already keeps all cores or the whole GPU busy, and here a signal or
# the time limit ends it at once.
@flow(name="score", flow_run_name=score_run_name, persist_result=False)
def score_flow(
    location: Location,
    output: ScoreOutput = None,
    *,
    left: Left = "sentence1",
    right: Right = "sentence2",
    label: Label = None,
    label_scale: LabelScale = None,
    model: Model = "champion",
    done_by: DoneByMoment = None,
    max_bad_rows: MaxBadRows = 0.05,
    max_bad_files: MaxBadFiles = 0.01,
    warn_bad_rows: WarnBadRows = 0.01,
    strictness: Strictness = "normal",
) -> State:
    """Score everything at `location`; return where the files are, how many rows there were, and the exit code for that."""
    insist_on_limit()
    limits = {"max_bad_rows": max_bad_rows, "max_bad_files": max_bad_files}
    limits |= {"warn_bad_rows": warn_bad_rows, "strictness": strictness}
    columns = Columns(left, right, label, label_scale=parse_scale(label_scale))
    job = plan_job(plan.ScoreRequest(location, output, columns, model, **limits))
    with score.open_job(job) as pending:
        rows = sum(shard.rows for shard in pending)
        monitor = RunMonitor(rows, watch(Pace(rows, done_by)))
        with contextlib.closing(ShardRuns(job.spec, pending, monitor)) as runs:
            scored = [score.check_result(job, score_shard(runs, shard.output, shard.rows)) for shard in pending]
            outcome = finish_job(job, scored)
    publish_scores(outcome, job)
    if line := outcome.explain():
        get_run_logger().warning(line)
    if many := outcome.remarks.get(finish.MANY_BAD_ROWS):
        events.tell(events.BAD_ROWS, f"{many} ({location})")
    done = {
        "output": str(outcome.target.name),
        "rows": outcome.rows,
        "rows_without_score": outcome.bad_rows,
        "files_left_out": len(outcome.bad_files),
        "remarks": list(outcome.remarks),
        "exit_code": outcome.exit_code(),
    }
    return Completed(name=", ".join(["Completed", *outcome.remarks]), data=done)
