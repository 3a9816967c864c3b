"""What the run page shows: the night's report compared with earlier nights, a table of shards, the gate's verdict."""

from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.runtime import flow_run

from flows import events
from stsb_batch.refresh.job import RefreshOutcome
from stsb_batch.refresh.page import refresh_page
from stsb_batch.report.page import Page
from stsb_batch.report.text import counted
from stsb_batch.scoring.finish import ScoreOutcome
from stsb_batch.scoring.page import drift_alert, score_page, shard_rows
from stsb_batch.scoring.plan import ScorePlan


def publish_scores(outcome: ScoreOutcome, job: ScorePlan) -> None:
    """Show a scoring run's report and its shards, and emit the drift event when its rows differ too much from earlier ones.

    The keys stay the same from night to night, so that an artifact's page shows the nights as its history.
    """
    show("score-report", score_page(outcome, job), f"{job.request.location} by {job.checkpoint.name}")
    shards = f"{counted(len(job.shards), 'shard')} of {job.request.location}"
    create_table_artifact(key="score-shards", table=shard_rows(outcome, job), description=shards)
    moved = drift_alert(outcome)
    if moved and outcome.shards_scored:
        events.emit(events.DRIFT, moved)


def publish_refresh(outcome: RefreshOutcome) -> None:
    """Show the gate's verdict on a refresh, with its metrics and the versions before."""
    show("refresh-report", refresh_page(outcome), outcome.version.reference)


def root_run() -> str:
    """Return the id of the run that people see in the list of runs: the night, or this run if nothing started it."""
    return flow_run.root_flow_run_id or flow_run.id


def show(key: str, page: Page, about: str) -> None:
    """Put a report on the root run's page, and its first sentence into that run's log."""
    report = ArtifactCreate(key=key, type="markdown", description=about, data=page.markdown, flow_run_id=UUID(root_run()))
    with get_client(sync_client=True) as client:
        client.create_artifact(report)
    get_run_logger().info(page.headline, extra={"flow_run_id": root_run()})
