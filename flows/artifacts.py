"""What the run page shows: the night's report against the last nights, a table of the shards, the gate's verdict."""

from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.runtime import flow_run
from stsb_batch.refresh.page import refresh_page

from flows import events
from stsb_batch.refresh.job import RefreshOutcome
from stsb_batch.report.page import Page
from stsb_batch.report.text import counted
from stsb_batch.scoring.finish import ScoreOutcome
from stsb_batch.scoring.page import drift_alert, score_page, shard_rows
from stsb_batch.scoring.plan import ScorePlan


def publish_scores(outcome: ScoreOutcome, job: ScorePlan) -> None:
    """Show a scoring run's report and its shards, and raise the drift event when its rows are too far from the last ones.

    The keys stay the same from night to night, so that an artifact's page has the nights as its history.
    """
    show("score-report", score_page(outcome, job), f"{job.request.location} by {job.checkpoint.name}")
    shards = f"{counted(len(job.shards), 'shard')} of {job.request.location}"
    create_table_artifact(key="score-shards", table=shard_rows(outcome, job), description=shards)
    moved = drift_alert(outcome)
    if moved and outcome.shards_scored:
        events.tell(events.DRIFT, moved)


def publish_refresh(outcome: RefreshOutcome) -> None:
    """Show the gate's verdict on a refresh, with its metrics and the versions before."""
    show("refresh-report", refresh_page(outcome), outcome.version.reference)


def outermost_run() -> str:
    """Return the id of the run that people see in the list of runs: the night, or this run if nothing started it."""
    return flow_run.root_flow_run_id or flow_run.id


def show(key: str, page: Page, about: str) -> None:
    """Put a report on the outermost run's page, and its first sentence into that run's log."""
    report = {"key": key, "type": "markdown", "description": about, "data": page.markdown}
    with get_client(sync_client=True) as client:
        client.create_artifact(ArtifactCreate(**report, flow_run_id=UUID(outermost_run())))
    get_run_logger().info(page.headline, extra={"flow_run_id": outermost_run()})
