"""The report of a run as a page in Markdown: a sentence, charts, its figures with those of the run before and the limits.

Pure: reports in, text out. The page has figures and names, never a row's text.
"""

from dataclasses import dataclass

import polars as pl

from stsb_batch.errors import escape_control
from stsb_batch.report.charts import Point, bars_chart, markdown_image, nights_chart
from stsb_batch.report.drift import DriftFigure
from stsb_batch.report.sketch import UNKNOWN_LIMIT
from stsb_batch.report.table import drift_of, figure, metrics_of, parts, whole_share
from stsb_batch.report.text import METRIC_TITLES, drift_name, duration

NIGHTS = 14  # shown in a chart over nights


@dataclass(frozen=True)
class Limits:
    """The limits of a run: share of rows without a score, difference from fp32, and a minimum for Pearson."""

    bad_rows: float
    parity: float
    pearson: float | None


@dataclass(frozen=True)
class Night:
    """A run's report, with a title for people."""

    title: str
    report: pl.DataFrame


@dataclass(frozen=True)
class TableRow:
    """A row of the table: a figure now and before, its limit, and PASS, WARN, FAIL or nothing."""

    name: str
    now: str
    before: str = "-"
    limit: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Page:
    """A page in Markdown, and the sentence that it starts with."""

    headline: str
    markdown: str


def night_page(night: Night, past: list[Night], limits: Limits, *, facts: list[tuple[str, str]]) -> Page:
    """Return the page of a run. `past` are the runs before it, oldest first; `facts` (name, value) end the page."""
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


def headline(night: Night, lines: list[TableRow]) -> str:
    """Return a sentence with what ran and how many checks failed."""
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


def _lines(report: pl.DataFrame, last: pl.DataFrame | None, limits: Limits) -> list[TableRow]:
    def plain(name: str, metric: str, form: str) -> TableRow:
        return TableRow(name, _shown(report, metric, form), _shown(last, metric, form))

    rows, parity = int(figure(report, "rows") or 0), figure(report, "parity_max_gap")
    is_within = rows - _scored(report) <= whole_share(limits.bad_rows, rows)
    missing, missing_before = ("-" if one is None else f"{_missing_share(one):.2%}" for one in (report, last))
    left_out, left_out_before = ("-" if one is None else f"{_files_left_out(one):,.0f}" for one in (report, last))
    within, any_left_out = "PASS" if is_within else "WARN", "WARN" if _files_left_out(report) else "PASS"
    lines = [
        plain("rows", "rows", ",.0f"),
        TableRow("rows without a score", missing, missing_before, f"≤ {limits.bad_rows:.2%}", within),
        TableRow("files left out", left_out, left_out_before, "none", any_left_out),
        *_metric_lines(report, last, limits),
        *_unknown_lines(report, last),
        plain("median score", "score_p50", ".2f"),
        *[_drift_line(found) for found in drift_of(report)],
    ]
    if parity is not None:
        judged = _at_most(parity, limits.parity, "{:g}")
        lines.append(TableRow("largest gap to fp32", f"{parity:.4f}", _shown(last, "parity_max_gap", ".4f"), *judged))
    return [*lines, plain("rows per second", "rows_per_second", ",.0f"), plain("tokens per pair", "tokens_mean", ".1f")]


def _unknown_lines(report: pl.DataFrame, last: pl.DataFrame | None) -> list[TableRow]:
    share = figure(report, "unknown_token_rate")
    if share is None:
        return []
    limit, verdict = _at_most(share, UNKNOWN_LIMIT, "{:.0%}")
    before = _shown(last, "unknown_token_rate", ".2%")
    return [TableRow("unknown tokens", f"{share:.2%}", before, limit, "WARN" if verdict == "FAIL" else verdict)]


def _metric_lines(report: pl.DataFrame, last: pl.DataFrame | None, limits: Limits) -> list[TableRow]:
    lines = []
    for row in metrics_of(report):
        if row["value"] is None or row["slice"] != "all":
            continue
        name = row["metric"]
        interval = "" if row["lower"] is None else f" ({row['lower']:.3f} to {row['upper']:.3f})"
        judged = ("", "")
        if name == "pearson" and limits.pearson is not None:
            judged = (f"≥ {limits.pearson:.2f}", "PASS" if row["value"] >= limits.pearson else "FAIL")
        lines.append(TableRow(METRIC_TITLES[name], f"{row['value']:.3f}{interval}", _shown(last, name, ".3f"), *judged))
    return lines


def _drift_line(found: DriftFigure) -> TableRow:
    form = "{:+.2%}" if found.metric == "drift_rate" else "{:.3f}"
    return TableRow(drift_name(found), form.format(found.value), "", f"≤ {form.format(found.limit)}", found.verdict)


def _at_most(value: float, limit: float, form: str) -> tuple[str, str]:
    return f"≤ {form.format(limit)}", "PASS" if value <= limit else "FAIL"


def _shown(report: pl.DataFrame | None, metric: str, form: str) -> str:
    value = None if report is None else figure(report, metric)
    return "-" if value is None else format(value, form)


def verdict_word(verdict: str) -> str:
    """Return a verdict in Markdown, in bold unless it is PASS."""
    return verdict if verdict in ("", "PASS") else f"**{verdict}**"


def code(text: object) -> str:
    """Return a name as Markdown code, whatever characters it has."""
    name = escape_control(text).replace("`", "'").replace("|", "\\|")
    return f"`{name}`"


def fact_lines(facts: list[tuple[str, str]]) -> list[str]:
    """Return (name, value) pairs as the lines of a Markdown table; the first pair is its head."""
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
        return ["This is the first run of its series; the next one will be compared with it.", ""]
    if report["model_digest"][0] != last.report["model_digest"][0]:
        models = f"{last.report['model'][0]} to {report['model'][0]}"
        return [f"The model changed from {models}, so the scores are not compared with those of the run before.", ""]
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
    """Draw Pearson with its interval if this run has labels, else the median score with p05 and p95."""
    labelled = figure(nights[-1].report, "pearson") is not None
    points = []
    for night in nights[-NIGHTS:]:
        found = [row for row in metrics_of(night.report) if (row["metric"], row["slice"]) == ("pearson", "all")]
        if labelled:
            values = [found[0][name] if found else None for name in ("value", "lower", "upper")]
        else:
            values = [figure(night.report, name) for name in ("score_p50", "score_p05", "score_p95")]
        points.append(Point(night.title[5:], *values))
    title = "Pearson against the labels, with 95 % interval" if labelled else "median score, with p05 to p95"
    return markdown_image(title, nights_chart(title, points, limit=limits.pearson if labelled else None))
