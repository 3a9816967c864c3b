"""A report as a person reads it."""

import datetime as dt

import polars as pl
import pytest
from rich.console import Console

from stsb_batch.report.table import RunFacts, build_report
from stsb_batch.report.text import counted, drift_summary, duration, histogram_bars, metric_lines, overview, report_view
from tests.builders import make_sketch

FACTS = RunFacts("r1", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "in.parquet", "sts@1", "d" * 64, "torch", "fp32")


@pytest.fixture
def report() -> pl.DataFrame:
    labelled = pl.DataFrame({"label": [0.0, 2.0, 5.0], "score": [0.5, 2.5, 4.5]})
    return build_report(FACTS, make_sketch([0.5, 2.5, 2.6, 4.5, None]), labelled)


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7_260, "2 h 01 min")])
def test_time_is_written_in_the_unit_that_fits(seconds: float, said: str):
    """Seconds up to two minutes, minutes up to two hours, then hours and minutes."""
    assert duration(seconds) == said


def test_counts_have_their_plural():
    """One is singular, thousands have a comma."""
    assert [counted(number, "row") for number in (0, 1, 1_000)] == ["0 rows", "1 row", "1,000 rows"]


def test_overview_has_what_is_known(report: pl.DataFrame):
    """Rows and statuses are counted; what the run does not know is a dash; without an earlier run there is no drift."""
    shown = dict(overview(report))
    assert (shown["rows"], shown["by status"]) == ("5", "NULL_INPUT 1, OK 4")
    assert shown["model"] == "sts@1 (dddddddddddd)"
    assert shown["first score after"] == "- s"
    assert drift_summary(report) == ""


def test_bars_are_as_long_as_their_share(report: pl.DataFrame):
    """The highest bar has forty blocks, half of it twenty."""
    bars = {name: (rows, len(bar)) for name, rows, bar in histogram_bars(report)}
    assert (bars["2.5-3.0"], bars["0.5-1.0"], bars["1.0-1.5"]) == ((2, 40), (1, 20), (0, 0))


def test_terminal_shows_figures_bars_and_metrics(report: pl.DataFrame):
    """What is printed has the overview, the histogram, and each metric with its interval."""
    console = Console(width=100)
    with console.capture() as captured:
        console.print(report_view(report))
    printed = captured.get()
    assert "score p05 / median / p95" in printed
    assert "█" * 40 in printed
    assert [line[1] for line in metric_lines(report)] == ["MSE", "RMSE", "MAE", "Pearson", "Spearman"]
    assert all(line[3] in printed for line in metric_lines(report))
