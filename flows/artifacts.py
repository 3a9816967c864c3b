"""What the run page shows: the night's report against the last nights, a table of the shards, the gate's verdict."""

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event
from prefect.runtime import flow_run

from stsb_batch.jobs.finish import ScoreOutcome
from stsb_batch.jobs.page import drift_alert, refresh_page, score_page, shard_rows
from stsb_batch.jobs.plan import ScorePlan
from stsb_batch.jobs.refresh import RefreshOutcome

DRIFT = "stsb-batch.drift"


def publish_scores(outcome: ScoreOutcome, job: ScorePlan) -> None:
    """Show a scoring run's report and its shards, and raise the drift event when its rows are too far from the last ones.

    The keys stay the same from night to night, so that an artifact's page has the nights as its history.
    """
    about = f"{job.request.location} by {job.checkpoint.name}"
    create_markdown_artifact(key="score-report", markdown=score_page(outcome, job), description=about)
    shards = f"{len(job.shards):,} shards of {job.request.location}"
    create_table_artifact(key="score-shards", table=shard_rows(outcome, job), description=shards)
    moved = drift_alert(outcome)
    if moved and outcome.shards_scored:
        tell_drift(moved)


def tell_drift(message: str) -> None:
    """Emit the event that an automation turns into an alert; it names the run, so that receivers can tell doubles."""
    run = flow_run.root_flow_run_id or flow_run.id
    emit_event(
        event=DRIFT,
        resource={"prefect.resource.id": f"{DRIFT}.{flow_run.id}", "prefect.resource.name": flow_run.name or DRIFT},
        related=[{"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}],
        payload={"message": message, "run": run},
    )


def publish_refresh(outcome: RefreshOutcome) -> None:
    """Show the gate's verdict on a refresh, with its metrics and the versions before."""
    create_markdown_artifact(key="refresh-report", markdown=refresh_page(outcome), description=outcome.version.reference)
