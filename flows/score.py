"""Score a data set: plan, one task per shard, commit, report."""

from prefect import flow, task
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import unmapped

from flows.artifacts import publish_scores
from stsb_batch.errors import BusyError, StorageError, UnavailableError
from stsb_batch.jobs import finish, plan, score
from stsb_batch.jobs.finish import FILES_LEFT_OUT, MANY_BAD_ROWS
from stsb_batch.models.registry import model_name
from stsb_batch.pairs.schema import Columns
from stsb_batch.pairs.source import BadFile
from stsb_batch.settings import load_settings


def is_worth_retrying(_task, _run, state) -> bool:
    """Say whether a failure may go away by itself: storage, a missing server, a held lock; bad data never does."""
    return isinstance(state.result(raise_on_failure=False), BusyError | StorageError | UnavailableError)


def score_run_name() -> str:
    given = flow_run.parameters
    return f"score {given['location']} with {model_name(load_settings().home, given['model'])}"


@task(
    task_run_name="score {shard.output} ({shard.rows} rows)",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=is_worth_retrying,
    persist_result=False,
)
def score_shard(job: plan.ScorePlan, shard: plan.Shard) -> dict | BadFile:
    """Score one shard and commit its file; a file that turns out bad is left out."""
    return score.score_or_reject(job, shard)


@task(task_run_name="commit and report", persist_result=False)
def finish_job(job: plan.ScorePlan, scored: dict) -> finish.ScoreOutcome:
    """Write report, manifest and `_SUCCESS`."""
    return finish.finish_job(job, scored)


# One shard at a time: a shard already keeps all cores or the whole GPU busy.
@flow(
    name="score",
    flow_run_name=score_run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=1),
    persist_result=False,
)
def score_flow(
    location: str,
    output: str | None = None,
    *,
    left: str = "sentence1",
    right: str = "sentence2",
    label: str | None = None,
    model: str = "champion",
) -> State:
    """Score everything at `location`; return where the files are, how many rows there were, and the exit code for that."""
    job = plan.plan_score(plan.ScoreRequest(location, output, Columns(left, right, label), model))
    with score.open_job(job) as pending:
        futures: list[PrefectFuture] = score_shard.map(unmapped(job), pending)
        scored = {shard.output: future.result() for shard, future in zip(pending, futures, strict=True)}
        outcome = finish_job(job, scored)
    publish_scores(outcome, job)
    done = {
        "output": str(outcome.target.name),
        "rows": outcome.rows,
        "rows_without_score": outcome.bad_rows,
        "files_left_out": len(outcome.bad_files),
        "exit_code": outcome.exit_code(),
    }
    return Completed(name=f"Completed{remark(done)}", data=done)


def remark(done: dict) -> str:
    """Return what a run's state says behind `Completed` when not all of its input has a score."""
    return {FILES_LEFT_OUT: ", files left out", MANY_BAD_ROWS: ", many rows without a score"}.get(done["exit_code"], "")
