"""The run page of a scoring job: the report compared with earlier nights, and a row for each shard."""

import json

from stsb_batch.errors import StsbBatchError, escape_control
from stsb_batch.inference.pipeline import PARITY_TOLERANCE
from stsb_batch.models.registry import find_version
from stsb_batch.pairs.layout import report_of
from stsb_batch.report.page import NIGHTS, Limits, Night, Page, code, night_page
from stsb_batch.report.sketch import Sketch
from stsb_batch.report.table import figure
from stsb_batch.report.text import drift_summary
from stsb_batch.scoring.finish import ScoreOutcome
from stsb_batch.scoring.history import past_runs, series_of
from stsb_batch.scoring.plan import ScorePlan

SHARDS_SHOWN = 1_000


def score_page(outcome: ScoreOutcome, plan: ScorePlan) -> Page:
    """Write a scoring run's page in Markdown."""
    request, report = plan.request, outcome.report
    series = series_of(request.location, request.columns)
    before = past_runs(request.settings.home, series, before=report["run_at"][0], count=NIGHTS - 1)
    this = Night(series.title or f"{report['run_at'][0]:%Y-%m-%d}", report)
    limits = Limits(request.warn_bad_rows, PARITY_TOLERANCE[plan.choice.precision], _floor(plan))
    left_out = [("left out", code(bad.error)) for bad in outcome.bad_files[:20]]
    facts = [
        ("input", code(request.location)),
        ("scores", code(outcome.target.name)),
        ("report", code(report_of(outcome.target))),
        ("model", f"{report['model'][0]}, {code(report['model_digest'][0][:12])}"),
        ("engine", str(plan.choice)),
        *left_out,
        ("look closer", code(f"stsb-batch report {outcome.target.name}")),
        ("check the files", code(f"stsb-batch verify {outcome.target.name}")),
    ]
    return night_page(this, [Night(run.title, run.report) for run in before], limits, facts=facts)


def _floor(plan: ScorePlan) -> float | None:
    """Return the Pearson that the gate asked of the model that scored; None for a model that passed no gate here."""
    try:
        card = find_version(plan.request.settings.home, plan.checkpoint.name).card
    except StsbBatchError:
        return None
    return card.get("judged_by", {}).get("floor")


def shard_rows(outcome: ScoreOutcome, plan: ScorePlan) -> list[dict]:
    """Return a table row for each shard, of the first thousand: its rows and how fast they were scored."""
    rows = []
    for shard in plan.shards[:SHARDS_SHOWN]:
        result = outcome.results.get(shard.output)
        if result is None:  # its file turned out bad
            continue
        sketch = Sketch(**json.loads(result.footer["sketch"]))
        rows.append(
            {
                "output": escape_control(shard.output),
                "rows": sketch.rows,
                "no score": sketch.rows - sketch.scored,
                "median": round(float(sketch.score_quantiles([0.5])[0]), 2) if sketch.scored else "-",
                "rows/s": round(sketch.rows / sketch.seconds) if sketch.seconds else "-",
                "seconds": round(sketch.seconds, 3),
                "MiB": round(result.bytes / (1 << 20), 2),
            }
        )
    return rows


def drift_alert(outcome: ScoreOutcome) -> str | None:
    """Return the alert for a run whose rows are too far from those of the night before; None without one."""
    report = outcome.report
    if not figure(report, "drift_alerts"):
        return None
    return f"{report['dataset'][0]}, scored by {report['model'][0]}, has drifted: {drift_summary(report)}"
