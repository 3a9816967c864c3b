"""What the run page shows: a markdown report with the metrics and a table of the shards."""

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from stsb_batch.jobs.finish import ScoreOutcome
from stsb_batch.jobs.plan import ScorePlan
from stsb_batch.jobs.refresh import RefreshOutcome
from stsb_batch.report.people import metric_lines, report_markdown


def publish_scores(outcome: ScoreOutcome, job: ScorePlan) -> None:
    """Show a scoring run's report and its shards."""
    headline = (
        f"{outcome.rows:,} rows, {outcome.bad_rows:,} without a score, by {job.checkpoint.name} "
        f"in {outcome.seconds:,.0f} s into {outcome.target.name}"
    )
    about = f"{job.request.location} by {job.checkpoint.name}"
    create_markdown_artifact(key="score-report", markdown=report_markdown(outcome.report, headline), description=about)
    shards = [
        {"input": str(shard.source.relative), "output": str(outcome.target.path(shard.output)), "rows": shard.rows}
        for shard in job.shards
    ]
    create_table_artifact(key="score-shards", table=shards, description=f"{len(shards)} shards of {job.request.location}")


def publish_refresh(outcome: RefreshOutcome) -> None:
    """Show a refresh's metrics and the gate's verdict."""
    verdict = "passed the gate" if outcome.decision.passed else "refused by the gate, the champion stays"
    headline = f"{outcome.version.reference} {verdict}" + ("" if outcome.trained else " (nothing new to train from)")
    lines = [f"**{headline}**", "", "| part | metric | value | 95 % interval | rows |", "|---|---|---:|---:|---:|"]
    lines += [f"| {' | '.join(line)} |" for line in metric_lines(outcome.metrics)]
    lines += ["", *[f"- {line}" for line in outcome.decision.checks + outcome.decision.notes]]
    create_markdown_artifact(key="refresh-report", markdown="\n".join(lines), description=outcome.version.reference)
