"""The page of a refresh in Markdown: the gate's decision, what it is based on, and the versions before."""

import contextlib
from pathlib import Path
from typing import Any

from stsb_batch.errors import ModelIntegrityError
from stsb_batch.models.registry import Version, readable_versions
from stsb_batch.pairs.label_scale import card_scale
from stsb_batch.refresh.job import RefreshOutcome
from stsb_batch.report.charts import Point, markdown_image, nights_chart
from stsb_batch.report.page import NIGHTS, Page, code, fact_lines, verdict_word
from stsb_batch.report.table import metrics_of
from stsb_batch.report.text import metric_lines


def refresh_page(outcome: RefreshOutcome) -> Page:
    """Return the page of a refresh."""
    version, decision, card = outcome.version, outcome.decision, outcome.version.card
    verdict = "passed the gate" if decision.passed else "was refused by the gate, the champion stays"
    reused = "" if outcome.trained else " Nothing was trained: labels, base model and recipe are as in an earlier refresh."
    labels = ", ".join(f"{name} {rows:,}" for name, rows in card["labels"]["rows"].items())
    facts = [
        ("model", f"{version.reference}, {code(version.digest[:12])}"),
        ("champion it was compared with", card["parent"] or "none: it is the first model"),
        ("trained from", f"{code(card['labels']['source'])} ({labels})"),
        ("scale of the labels", card_scale(card["labels"])),
        ("recipe", f"{card['recipe']} on {code(Path(card['base_model']).name)}"),
        ("test pairs also in train or val", f"{card['labels']['test_pairs_in_train_or_val']:,}"),
        ("details", code(f"stsb-batch models show {version.reference}")),
    ]
    headline = f"{version.reference} {verdict}."
    text = [
        f"**{headline}**{reused}",
        "",
        "| check | |",
        "|---|---|",
        *[f"| {check.detail} | {verdict_word('PASS' if check.passed else 'FAIL')} |" for check in decision.checks],
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
    family = [one for one in readable_versions(home) if one.card["name"] == newest.card["name"]]
    points = []
    for version in [one for one in family if one.card["version"] <= newest.card["version"]][-NIGHTS:]:
        metrics: list[dict[str, Any]] = []
        with contextlib.suppress(ModelIntegrityError):  # a version whose report is damaged leaves a gap in the chart
            metrics = metrics_of(version.metrics())
        found = [row for row in metrics if (row["metric"], row["slice"]) == ("pearson", "test")]
        values = [found[0][name] if found else None for name in ("value", "lower", "upper")]
        points.append(Point(version.reference, *values))
    title = "Pearson of the versions on their test pairs, with 95 % interval"
    return markdown_image(title, nights_chart(title, points, limit=newest.card.get("judged_by", {}).get("floor")))
