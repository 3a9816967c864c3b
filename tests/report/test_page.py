"""The night's page: what a person reads first, the table, the charts that carry themselves."""

import base64
import dataclasses
import datetime as dt
import re
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from stsb_batch.report.drift import compare
from stsb_batch.report.page import Limits, Night
from stsb_batch.report.page import night_page as write_page
from stsb_batch.report.sketch import Sketch, sketch_rows
from stsb_batch.report.table import RunFacts, build_report, drift_of, drift_rows, figure
from stsb_batch.report.text import drift_summary

FACTS = RunFacts("r1", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "night=2026-01-02", "sts@1", "d" * 64, "torch", "fp32")
LIMITS = Limits(bad_rows=0.05, parity=0.005, pearson=0.6)
SVG = "{http://www.w3.org/2000/svg}"


def sketch(*, shift: float = 0.0, bad: int = 0) -> Sketch:
    rng = np.random.default_rng(0)
    scores = (rng.uniform(0.5, 3.5, 400) + shift).astype(np.float32)
    scores[:bad] = np.nan
    statuses = np.where(np.isnan(scores), 2, 0).astype(np.int8)
    lengths = np.where(np.isnan(scores), 0, 20).astype(np.int32)
    return sketch_rows(scores, statuses, lengths, distinct=400, gaps=np.array([1e-4]), seconds=2.0)


def night(
    title: str, rows: Sketch, *, before: Sketch | None = None, noise: float | None = None, **facts: str | dict
) -> Night:
    """Make a night's report: compared with `before`, with labels `noise` away from the scores."""
    drift = drift_rows(compare(rows, before, same_model=True), "r0", before.rows) if before else []
    labels = np.linspace(0, 5, 400)
    scores = labels + np.random.default_rng(1).normal(0, noise or 1, 400)
    labelled = None if noise is None else pl.DataFrame({"label": labels, "score": scores})
    return Night(title, build_report(dataclasses.replace(FACTS, **facts), rows, labelled, wall_seconds=75, drift=drift))


def night_page(*args, **facts) -> str:
    return write_page(*args, **facts).markdown


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - our own, made a moment ago


def pictures(page: str) -> list[ElementTree.Element]:
    """Decode the page's charts."""
    return [parse(base64.b64decode(found).decode()) for found in re.findall(r"svg\+xml;base64,([^)]+)\)", page)]


def cells(page: str, name: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_good_night_says_so():
    """The first line has date, rows, model, time and that all checks passed; the table has last night and the limits."""
    last, tonight = night("2026-01-01", sketch()), night("2026-01-02", sketch(), before=sketch())
    page = night_page(tonight, [last], LIMITS, facts=[("scores", "`out`")])
    assert page.splitlines()[0] == "**2026-01-02: 400 rows by sts@1 in 75 s. All checks passed (10).**"
    assert "| | | 2026-01-02 | 2026-01-01 | limit |" in page
    assert cells(page, "rows without a score") == ["PASS", "0.00%", "0.00%", "≤ 5.00%"]
    assert cells(page, "scores moved (PSI)") == ["PASS", "0.000", "", "≤ 0.250"]
    assert cells(page, "scores") == ["`out`"]


def test_a_bad_night_names_what_failed():
    """What is beyond its limit stands in the first line and in bold in the table."""
    last, tonight = night("2026-01-01", sketch()), night("2026-01-02", sketch(shift=1.0, bad=24), before=sketch())
    page = night_page(tonight, [last], LIMITS, facts=[])
    assert "24 without a score. 4 of 10 checks FAILED: scores moved (KS), " in page.splitlines()[0]
    assert "; 1 WARN: rows without a score." in page.splitlines()[0]
    assert cells(page, "rise of null texts") == ["**FAIL**", "+6.00%", "", "≤ +3.50%"]


@pytest.mark.parametrize(("bad", "limit", "verdict"), [(4, 0.01, "PASS"), (5, 0.01, "**WARN**"), (116, 0.29, "PASS")])
def test_rows_without_a_score_have_the_verdict_of_the_exit_code(bad: int, limit: float, verdict: str):
    """Kind: two limits for one thing. The page warns above the warn limit, where the exit code is 10, and not at it."""
    page = night_page(night("2026-01-02", sketch(bad=bad)), [], dataclasses.replace(LIMITS, bad_rows=limit), facts=[])
    assert cells(page, "rows without a score")[0] == verdict
    assert ("All checks passed" in page) is (verdict == "PASS")


def test_files_left_out_are_a_check():
    """Kind: two verdicts on one run. Where the exit code is 11 the page does not say that all is well."""
    page = night_page(night("2026-01-02", sketch(), bad_files={"SCHEMA": 2}), [], LIMITS, facts=[])
    assert cells(page, "files left out") == ["**WARN**", "2", "-", "none"]
    assert "No check failed, 1 of 3 WARN: files left out." in page.splitlines()[0]


def test_text_that_the_model_cannot_read_is_a_warning():
    """Kind: text that the model cannot read. Above 2 % unknown tokens the page warns; without a count it says nothing."""
    for unknown, verdict in ((200, "PASS"), (201, "**WARN**")):
        rows = dataclasses.replace(sketch(), text_tokens=10_000, unknown_tokens=unknown)
        page = night_page(night("2026-01-02", rows), [], LIMITS, facts=[])
        assert cells(page, "unknown tokens") == [verdict, f"{unknown / 10_000:.2%}", "-", "≤ 2%"]
    assert "1 of 4 WARN: unknown tokens" in page.splitlines()[0]
    assert "unknown tokens" not in night_page(night("2026-01-02", sketch()), [], LIMITS, facts=[])


def test_labels_are_held_against_the_floor():
    """Where there are labels Pearson has its interval and the floor, and is what the nights' chart shows."""
    page = night_page(night("2026-01-02", sketch(), noise=4.0), [], LIMITS, facts=[])
    assert cells(page, "Pearson")[::3] == ["**FAIL**", "≥ 0.60"]
    assert "Pearson against the labels" in page
    good = night_page(night("2026-01-02", sketch(), noise=0.5), [], LIMITS, facts=[])
    assert cells(good, "Pearson")[0] == "PASS"
    assert "Pearson against the labels" not in night_page(night("2026-01-02", sketch()), [], LIMITS, facts=[])


def test_first_night_and_new_model_are_explained():
    """The page says why there is nothing to compare with, or why scores are not compared."""
    assert "first run of its series" in night_page(night("2026-01-02", sketch()), [], LIMITS, facts=[])
    last = night("2026-01-01", sketch(), model="sts@0", model_digest="c" * 64)
    assert "from sts@0 to sts@1" in night_page(night("2026-01-02", sketch()), [last], LIMITS, facts=[])


def test_a_night_without_rows_has_a_page():
    """No rows, no labels, no scores: the page is there and claims nothing."""
    page = night_page(Night("2026-01-02", build_report(FACTS, Sketch())), [], LIMITS, facts=[])
    assert page.startswith("**2026-01-02: 0 rows by sts@1 in 0 s. All checks passed (2).**")
    assert len(pictures(page)) == 2


def test_charts_need_nothing_from_outside():
    """Each chart is whole XML on a white sheet, with no link, script, style or other file in it."""
    charts = pictures(night_page(night("2026-01-02", sketch(), before=sketch()), [night("1", sketch())], LIMITS, facts=[]))
    assert len(charts) == 2
    for chart in charts:
        assert chart[0].get("fill") == "#ffffff"
        assert {element.tag.removeprefix(SVG) for element in chart.iter()} <= {
            "svg",
            "rect",
            "text",
            "path",
            "polyline",
            "circle",
        }
        assert not [name for element in chart.iter() for name in element.attrib if "href" in name or name.startswith("on")]


def test_drift_survives_the_table():
    """The comparisons come back from the tidy table as they went in; counts and the run compared with are rows of it."""
    figures = compare(sketch(shift=1.0), sketch(), same_model=True)
    report = build_report(FACTS, sketch(shift=1.0), drift=drift_rows(figures, "r0", 400))
    assert drift_of(report) == figures
    assert figure(report, "drift_alerts") == 2
    assert figure(report, "drift_baseline", "r0") == 1
    assert "scores moved (KS) 0.392, limit 0.138" in drift_summary(report)
    assert report.select("slice", "metric").is_duplicated().sum() == 0
