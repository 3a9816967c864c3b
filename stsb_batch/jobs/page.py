"""What the run page says of a finished job: the report against the last nights, a row per shard, the gate's verdict."""

import contextlib
import json
from pathlib import Path

from stsb_batch.errors import ModelIntegrityError, shown
from stsb_batch.jobs.finish import ScoreOutcome
from stsb_batch.jobs.history import past_runs, series_of
from stsb_batch.jobs.plan import ScorePlan
from stsb_batch.jobs.refresh import RefreshOutcome
from stsb_batch.models.registry import Version, whole_versions
from stsb_batch.pairs.label_scale import card_scale
from stsb_batch.pairs.layout import report_of
from stsb_batch.refresh.gate import GateLimits
from stsb_batch.report.charts import Point, markdown_image, nights_chart
from stsb_batch.report.page import NIGHTS, Limits, Night, Page, fact_lines, night_page, verdict_word
from stsb_batch.report.people import drift_summary, metric_lines
from stsb_batch.report.sketch import Sketch
from stsb_batch.report.table import figure, metrics_of
from stsb_batch.scoring.pipeline import PARITY_TOLERANCE

SHARDS_SHOWN = 1_000


def score_page(outcome: ScoreOutcome, plan: ScorePlan) -> Page:
    """Write a scoring run's page in Markdown."""
    request, report = plan.request, outcome.report
    series = series_of(request.location, request.columns)
    before = past_runs(request.settings.home, series, before=report["run_at"][0], count=NIGHTS - 1)
    this = Night(series.title or f"{report['run_at'][0]:%Y-%m-%d}", report)
    limits = Limits(request.warn_bad_rows, PARITY_TOLERANCE[plan.choice.precision], GateLimits.floor)
    left_out = [("left out", _code(bad.error)) for bad in outcome.bad_files[:20]]
    facts = [
        ("input", _code(request.location)),
        ("scores", _code(outcome.target.name)),
        ("report", _code(report_of(outcome.target))),
        ("model", f"{report['model'][0]}, {_code(report['model_digest'][0][:12])}"),
        ("engine", str(plan.choice)),
        *left_out,
        ("look closer", _code(f"stsb-batch report {outcome.target.name}")),
        ("check the files", _code(f"stsb-batch verify {outcome.target.name}")),
    ]
    return night_page(this, [Night(run.title, run.report) for run in before], limits, facts=facts)


def shard_rows(outcome: ScoreOutcome, plan: ScorePlan) -> list[dict]:
    """Return a table row for each shard, the first thousand of them: what it holds and how fast it was."""
    rows = []
    for shard in plan.shards[:SHARDS_SHOWN]:
        result = outcome.results.get(shard.output)
        if result is None:  # its file turned out bad
            continue
        sketch = Sketch(**json.loads(result["footer"]["sketch"]))
        rows.append(
            {
                "output": shown(shard.output),
                "rows": sketch.rows,
                "no score": sketch.rows - sketch.scored,
                "median": round(float(sketch.score_quantiles([0.5])[0]), 2) if sketch.scored else "-",
                "rows/s": round(sketch.rows / sketch.seconds) if sketch.seconds else "-",
                "seconds": round(sketch.seconds, 3),
                "MiB": round(result["bytes"] / (1 << 20), 2),
            }
        )
    return rows


def drift_alert(outcome: ScoreOutcome) -> str | None:
    """Return what to tell when a run's rows are too far from the last night's; None when all is well."""
    report = outcome.report
    if not figure(report, "drift_alerts"):
        return None
    return f"{report['dataset'][0]}, scored by {report['model'][0]}, is not what it was: {drift_summary(report)}"


def refresh_page(outcome: RefreshOutcome) -> Page:
    """Write a refresh's page in Markdown: the gate's verdict, what it rests on, and the versions before."""
    version, decision, card = outcome.version, outcome.decision, outcome.version.card
    verdict = "passed the gate" if decision.passed else "was refused by the gate, the champion stays"
    news = "" if outcome.trained else " Labels, base model and recipe are those of an earlier refresh: nothing was trained."
    checks = [check.split(" ", maxsplit=1) for check in decision.checks]
    labels = ", ".join(f"{name} {rows:,}" for name, rows in card["labels"]["rows"].items())
    facts = [
        ("model", f"{version.reference}, {_code(version.digest[:12])}"),
        ("champion it was held against", card["parent"] or "none: it is the first"),
        ("trained from", f"{_code(card['labels']['source'])} ({labels})"),
        ("scale of the labels", card_scale(card["labels"])),
        ("recipe", f"{card['recipe']} on {_code(Path(card['base_model']).name)}"),
        ("test pairs also in train or val", f"{card['labels']['test_pairs_in_train_or_val']:,}"),
        ("look closer", _code(f"stsb-batch models show {version.reference}")),
    ]
    headline = f"{version.reference} {verdict}."
    text = [
        f"**{headline}**{news}",
        "",
        "| check | |",
        "|---|---|",
        *[f"| {check} | {verdict_word(word)} |" for word, check in checks],
        "",
        *[f"{note}." for note in decision.notes],
        "",
        _versions_chart(version),
        "",
        "| part | metric | value | 95 % interval | pairs |",
        "|---|---|---:|---:|---:|",
        *[f"| {' | '.join(line)} |" for line in sorted(metric_lines(outcome.metrics), key=lambda line: line[0] != "test")],
        "",
        *fact_lines(facts),
    ]
    return Page(headline, "\n".join(text))


def _versions_chart(newest: Version) -> str:
    """Draw Pearson on the test pairs, with its interval, of a model's versions up to this one."""
    home = newest.path.parents[2]  # <home>/models/<name>/<n>
    family = [one for one in whole_versions(home) if one.card["name"] == newest.card["name"]]
    points = []
    for version in [one for one in family if one.card["version"] <= newest.card["version"]][-NIGHTS:]:
        metrics = []
        with contextlib.suppress(ModelIntegrityError):  # an old version's lost report leaves a gap in the chart
            metrics = metrics_of(version.metrics())
        values = [
            (row["value"], row["lower"], row["upper"])
            for row in metrics
            if (row["metric"], row["slice"]) == ("pearson", "test")
        ]
        points.append(Point(version.reference, *(values[0] if values else (None,))))
    title = "Pearson of the versions on their test pairs, with 95 % interval"
    return markdown_image(title, nights_chart(title, points, limit=GateLimits.floor))


def _code(text: object) -> str:
    """Show a name in Markdown as it is, whatever characters it has."""
    name = shown(text).replace("`", "'").replace("|", "\\|")
    return f"`{name}`"
