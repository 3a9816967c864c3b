"""A report as text for people: the figures of an overview, and tables for the terminal (rich)."""

import polars as pl
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from stsb_batch.report.drift import UNKNOWN_TOKENS, DriftFigure
from stsb_batch.report.metrics import METRICS
from stsb_batch.report.table import drift_of, figure, metrics_of, parts

METRIC_TITLES = dict(zip(METRICS, ("MSE", "RMSE", "MAE", "Pearson", "Spearman"), strict=True))

DRIFT_NAMES = {
    "drift_score_ks": "scores moved (KS)",
    "drift_score_wasserstein": "scores moved (Wasserstein)",
    "drift_score_psi": "scores moved (PSI)",
    "drift_tokens_ks": "lengths moved (KS)",
    "drift_tokens_wasserstein": "lengths moved (Wasserstein)",
    "drift_status_js": "statuses moved (JS)",
}
RATE_NAMES = {
    "NULL_INPUT": "rise of null texts",
    "EMPTY_INPUT": "rise of empty texts",
    "OK_TRUNCATED": "rise of truncated texts",
    UNKNOWN_TOKENS: "rise of unknown tokens",
}


def duration(seconds: float) -> str:
    """Return a duration in words: seconds, minutes, or hours and minutes."""
    seconds = round(seconds)
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def counted(number: int, thing: str) -> str:
    """Return a number and its noun, in the plural unless the number is 1."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def drift_name(found: DriftFigure) -> str:
    """Return the name of a comparison for people."""
    return RATE_NAMES[found.part] if found.metric == "drift_rate" else DRIFT_NAMES[found.metric]


def drift_summary(report: pl.DataFrame) -> str:
    """Return the comparisons above their limits in words; empty where there was no earlier run."""
    found = drift_of(report)
    moved = [
        f"{drift_name(one)} {one.value:.3f}, {'limit' if one.verdict == 'FAIL' else 'warning'} "
        f"{one.limit if one.verdict == 'FAIL' else one.warn:.3f}"
        for one in found
        if one.verdict != "PASS"
    ]
    return "; ".join(moved) or (f"none, in {len(found)} comparisons" if found else "")


def overview(report: pl.DataFrame) -> list[tuple[str, str]]:
    """Return the most important figures as (name, value) lines."""

    def number(metric: str, form: str = ",.0f") -> str:
        value = figure(report, metric)
        return "-" if value is None else format(value, form)

    engine = f"{parts(report, 'engine')[0][0]}, {parts(report, 'precision')[0][0]}"
    parity = next((state for state, _ in parts(report, "parity")), "")
    gap = f"{number('parity_max_gap', '.4f')} / {number('parity_mean_gap', '.4f')}"
    statuses = ", ".join(f"{name} {count:,.0f}" for name, count in parts(report, "rows_by_status")) or "none"
    left_out = ", ".join(f"{reason} {count:,.0f}" for reason, count in parts(report, "files_left_out"))
    return [
        ("rows", number("rows")),
        ("by status", statuses),
        *([("quarantined rows", number("rows_quarantined"))] if figure(report, "rows_quarantined") else []),
        *([("files left out", left_out)] if left_out else []),
        ("model", f"{report['model'][0]} ({report['model_digest'][0][:12]})"),
        ("engine", engine),
        (
            "score p05 / median / p95",
            f"{number('score_p05', '.2f')} / {number('score_p50', '.2f')} / {number('score_p95', '.2f')}",
        ),
        ("tokens per pair, mean / max", f"{number('tokens_mean', '.1f')} / {number('tokens_max')}"),
        ("truncated / duplicate pairs", f"{number('truncation_rate', '.2%')} / {number('duplicate_rate', '.2%')}"),
        ("unknown tokens", number("unknown_token_rate", ".2%")),
        ("scoring speed", f"{number('rows_per_second')} rows/s, {number('tokens_per_second')} tokens/s"),
        ("first score after", f"{number('first_score_seconds', '.1f')} s"),
        ("waited for", ", ".join(f"{name} {share:.0%}" for name, share in parts(report, "bottleneck")) or "-"),
        ("gap to fp32, max / mean", gap if parity in ("", "compared") else parity),
        *([("drift since the last run", drift_summary(report))] if drift_summary(report) else []),
    ]


def metric_lines(report: pl.DataFrame) -> list[tuple[str, str, str, str, str]]:
    """Return (slice, metric, value, 95 % interval, rows) for each regression metric."""
    lines = []
    for row in metrics_of(report):
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        interval = "-" if row["lower"] is None else f"{row['lower']:.4f} to {row['upper']:.4f}"
        lines.append((row["slice"], METRIC_TITLES[row["metric"]], value, interval, f"{row['rows']:,}"))
    return lines


def histogram_bars(report: pl.DataFrame) -> list[tuple[str, float, str]]:
    """Return (scores, rows, bar of block characters) for each bar of the score histogram."""
    bars = parts(report, "score_histogram")
    most = max((rows for _, rows in bars), default=0) or 1
    return [(name, rows, "█" * round(40 * rows / most)) for name, rows in bars]


def report_view(report: pl.DataFrame) -> RenderableType:
    """Return a report for the terminal."""
    head = Table.grid(padding=(0, 2))
    for name, value in overview(report):
        head.add_row(Text(name, style="dim"), escape(value))
    histogram = Table.grid(padding=(0, 1))
    for name, rows, bar in histogram_bars(report):
        histogram.add_row(Text(name, style="dim"), bar, f"{rows:,.0f}")
    return Group(
        head, "", Text("scores", style="bold"), histogram, *([metrics_table(report)] if metric_lines(report) else [])
    )


def metrics_table(report: pl.DataFrame) -> RenderableType:
    """Return the regression metrics for the terminal."""
    table = Table(title="Scores against labels", title_justify="left", title_style="bold")
    for name in ("part", "metric", "value", "95 % interval", "rows"):
        table.add_column(name, justify="left" if name in ("part", "metric") else "right")
    for line in metric_lines(report):
        table.add_row(*map(escape, line))
    return table
