"""The report of a night as a page: a sentence, charts, this night against the last one and the limits, in Markdown.

Pure: reports in, text out. Shown on the run page; holds figures and names, never a row's text.
"""

from dataclasses import dataclass

import polars as pl

from stsb_batch.report.charts import Point, bars_chart, markdown_image, nights_chart
from stsb_batch.report.drift import DriftFigure
from stsb_batch.report.sketch import UNKNOWN_LIMIT
from stsb_batch.report.table import drift_of, figure, metrics_of, parts, whole_share
from stsb_batch.report.text import METRIC_TITLES, drift_name, duration

NIGHTS = 14  # in the chart of the nights


@dataclass(frozen=True)
class Limits:
    """What a night is held against: share of rows without a score (to warn), gap to fp32, Pearson with labels."""

    bad_rows: float
    parity: float
    pearson: float


@dataclass(frozen=True)
class Night:
    """A run's report under the name that a person would give it."""

    title: str
    report: pl.DataFrame


@dataclass(frozen=True)
class Line:
    """A row of the table: a figure now and before, the limit it is held against, PASS, WARN or FAIL (or nothing)."""

    name: str
    now: str
    before: str = "-"
    limit: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Page:
    """A page in Markdown, and the sentence that it begins with."""

    headline: str
    markdown: str


def night_page(night: Night, past: list[Night], limits: Limits, *, facts: list[tuple[str, str]]) -> Page:
    """Write the page of a run. `past` holds the runs before it, oldest first; `facts` end the page as (name, value)."""
    last = past[-1] if past else None
    lines = _lines(night.report, last.report if last else None, limits)
    first = headline(night, lines)
    text = [
        f"**{first}**",
        "",
        _histogram(night.report, last.report if last else None),
        "",
        _nights([*past, night], limits),
        "",
        f"| | | {night.title} | {last.title if last else 'before'} | limit |",
        "|---|---|---:|---:|---:|",
        *[f"| {line.name} | {verdict_word(line.verdict)} | {line.now} | {line.before} | {line.limit} |" for line in lines],
        "",
        *_notes(night.report, last),
        "| status | rows | share |",
        "|---|---:|---:|",
        *_status_lines(night.report),
        "",
        *fact_lines(facts),
    ]
    return Page(first, "\n".join(text))


def headline(night: Night, lines: list[Line]) -> str:
    """Say in a sentence what ran and whether all is well."""
    report, judged = night.report, [line for line in lines if line.verdict]
    rows, scored = figure(report, "rows") or 0, _scored(report)
    failed = [line.name for line in judged if line.verdict == "FAIL"]
    warned = [line.name for line in judged if line.verdict == "WARN"]
    verdict = f"All checks passed ({len(judged)})."
    if failed:
        also = f"; {len(warned)} WARN: {', '.join(warned)}" if warned else ""
        verdict = f"{len(failed)} of {len(judged)} checks FAILED: {', '.join(failed)}{also}."
    elif warned:
        verdict = f"No check failed, {len(warned)} of {len(judged)} WARN: {', '.join(warned)}."
    seconds = figure(report, "wall_seconds") or 0
    missing = f", {rows - scored:,.0f} without a score" if rows > scored else ""
    return f"{night.title}: {rows:,.0f} rows by {report['model'][0]} in {duration(seconds)}{missing}. {verdict}"


def _lines(report: pl.DataFrame, last: pl.DataFrame | None, limits: Limits) -> list[Line]:
    def plain(name: str, metric: str, form: str) -> Line:
        return Line(name, _shown(report, metric, form), _shown(last, metric, form))

    rows, parity = int(figure(report, "rows") or 0), figure(report, "parity_max_gap")
    is_within = rows - _scored(report) <= whole_share(limits.bad_rows, rows)
    missing = ["-" if one is None else f"{_missing_share(one):.2%}" for one in (report, last)]
    left_out = ["-" if one is None else f"{_files_left_out(one):,.0f}" for one in (report, last)]
    lines = [
        plain("rows", "rows", ",.0f"),
        Line("rows without a score", *missing, f"≤ {limits.bad_rows:.2%}", "PASS" if is_within else "WARN"),
        Line("files left out", *left_out, "none", "WARN" if _files_left_out(report) else "PASS"),
        *_metric_lines(report, last, limits),
        *_unknown_lines(report, last),
        plain("median score", "score_p50", ".2f"),
        *[_drift_line(found) for found in drift_of(report)],
    ]
    if parity is not None:
        judged = _at_most(parity, limits.parity, "{:g}")
        lines.append(Line("largest gap to fp32", f"{parity:.4f}", _shown(last, "parity_max_gap", ".4f"), *judged))
    return [*lines, plain("rows per second", "rows_per_second", ",.0f"), plain("tokens per pair", "tokens_mean", ".1f")]


def _unknown_lines(report: pl.DataFrame, last: pl.DataFrame | None) -> list[Line]:
    share = figure(report, "unknown_token_rate")
    if share is None:
        return []
    limit, verdict = _at_most(share, UNKNOWN_LIMIT, "{:.0%}")
    before = _shown(last, "unknown_token_rate", ".2%")
    return [Line("unknown tokens", f"{share:.2%}", before, limit, "WARN" if verdict == "FAIL" else verdict)]


def _metric_lines(report: pl.DataFrame, last: pl.DataFrame | None, limits: Limits) -> list[Line]:
    lines = []
    for row in metrics_of(report):
        if row["value"] is None or row["slice"] != "all":
            continue
        name = row["metric"]
        interval = "" if row["lower"] is None else f" ({row['lower']:.3f} to {row['upper']:.3f})"
        judged = ("", "")
        if name == "pearson":
            judged = (f"≥ {limits.pearson:.2f}", "PASS" if row["value"] >= limits.pearson else "FAIL")
        lines.append(Line(METRIC_TITLES[name], f"{row['value']:.3f}{interval}", _shown(last, name, ".3f"), *judged))
    return lines


def _drift_line(found: DriftFigure) -> Line:
    form = "{:+.2%}" if found.metric == "drift_rate" else "{:.3f}"
    return Line(drift_name(found), form.format(found.value), "", f"≤ {form.format(found.limit)}", found.verdict)


def _at_most(value: float, limit: float, form: str) -> tuple[str, str]:
    return f"≤ {form.format(limit)}", "PASS" if value <= limit else "FAIL"


def _shown(report: pl.DataFrame | None, metric: str, form: str) -> str:
    value = None if report is None else figure(report, metric)
    return "-" if value is None else format(value, form)


def verdict_word(verdict: str) -> str:
    """Show a verdict: what is not PASS stands out."""
    return verdict if verdict in ("", "PASS") else f"**{verdict}**"


def fact_lines(facts: list[tuple[str, str]]) -> list[str]:
    """Lay (name, value) pairs out as a table; the first of them is its head."""
    lines = [f"| {name} | {value} |" for name, value in facts]
    return [*lines[:1], "|---|---|", *lines[1:]] if lines else []


def _scored(report: pl.DataFrame) -> float:
    return sum(rows for status, rows in parts(report, "rows_by_status") if status.startswith("OK"))


def _missing_share(report: pl.DataFrame) -> float:
    rows = figure(report, "rows")
    return 1 - _scored(report) / rows if rows else 0.0


def _files_left_out(report: pl.DataFrame) -> float:
    return sum(count for _, count in parts(report, "files_left_out"))


def _notes(report: pl.DataFrame, last: Night | None) -> list[str]:
    if last is None:
        return ["The first run of its kind: from the next one on there is something to compare with.", ""]
    if report["model_digest"][0] != last.report["model_digest"][0]:
        models = f"{last.report['model'][0]} to {report['model'][0]}"
        return [f"The model changed from {models}, so the scores are not compared with those before.", ""]
    return []


def _status_lines(report: pl.DataFrame) -> list[str]:
    rows = figure(report, "rows") or 1
    return [f"| {status} | {count:,.0f} | {count / rows:.2%} |" for status, count in parts(report, "rows_by_status")]


def _histogram(report: pl.DataFrame, last: pl.DataFrame | None) -> str:
    bars = parts(report, "score_histogram")
    edges = [name.split("-")[0] for name, _ in bars] + [bars[-1][0].split("-")[1]]
    title = "scores, share of rows"
    return markdown_image(title, bars_chart(title, edges, _shares(report), None if last is None else _shares(last)))


def _shares(report: pl.DataFrame) -> list[float]:
    counts = [count for _, count in parts(report, "score_histogram")]
    return [count / (sum(counts) or 1) for count in counts]


def _nights(nights: list[Night], limits: Limits) -> str:
    """Draw Pearson with its interval where this night has labels, else the median score with p05 and p95."""
    labelled = figure(nights[-1].report, "pearson") is not None
    points = []
    for night in nights[-NIGHTS:]:
        found = [row for row in metrics_of(night.report) if (row["metric"], row["slice"]) == ("pearson", "all")]
        if labelled:
            values = (found[0]["value"], found[0]["lower"], found[0]["upper"]) if found else (None, None, None)
        else:
            values = tuple(figure(night.report, name) for name in ("score_p50", "score_p05", "score_p95"))
        points.append(Point(night.title[5:], *values))
    title = "Pearson against the labels, with 95 % interval" if labelled else "median score, with p05 to p95"
    return markdown_image(title, nights_chart(title, points, limit=limits.pearson if labelled else None))
