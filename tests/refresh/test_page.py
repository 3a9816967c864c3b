"""A refresh's page: the verdict first, then what it rests on."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from stsb_batch.models import registry
from stsb_batch.refresh.gate import GateLimits, decide
from stsb_batch.refresh.job import RefreshOutcome, plan_refresh
from stsb_batch.refresh.page import refresh_page
from stsb_batch.report.table import RunFacts, finish_rows, metric_rows
from stsb_batch.requests import RefreshRequest
from tests.builders import add_version, made_from_plan, make_pairs

FACTS = RunFacts("r1", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "l.parquet", "sts@2", "d" * 64, "torch", "fp32")


@pytest.fixture
def version(bert: Path, settings, tmp_path: Path) -> registry.Version:
    """A second version, made from 200 labels and held against the first."""
    make_pairs(200).write_parquet(tmp_path / "l.parquet")
    plan = plan_refresh(RefreshRequest(str(tmp_path / "l.parquet"), str(bert)))
    registry.promote(settings.home, add_version(settings.home, bert), "test")
    return made_from_plan(plan, bert, settings.home)


def outcome(version: registry.Version, *, floor: float, trained: bool) -> RefreshOutcome:
    """The outcome of a model that scores as well as the champion, to the bit."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 5, 300)
    scores = labels + rng.normal(0, 0.5, 300)
    decision = decide(labels, scores, scores, GateLimits(floor=floor, draws=200))
    return RefreshOutcome(version, finish_rows(metric_rows(labels, scores, "test"), FACTS), decision, trained)


def test_page_says_the_verdict_with_intervals(version: registry.Version):
    """It begins with the verdict and has the checks, the metrics with intervals, a chart of the versions."""
    page = refresh_page(outcome(version, floor=0.999, trained=True))
    assert page.headline == f"{version.reference} was refused by the gate, the champion stays."
    assert page.markdown.startswith(f"**{page.headline}**")
    assert "above the floor 0.999 | **FAIL** |" in page.markdown
    assert "90 % interval" in page.markdown
    assert "| test | Pearson | " in page.markdown
    assert page.markdown.count("(data:image/svg+xml;base64,") == 1
    assert "| champion it was compared with | sts@1 |" in page.markdown


def test_page_of_a_version_that_is_there_says_so(version: registry.Version):
    """A refresh that found its work done says on its page that Nothing was trained."""
    page = refresh_page(outcome(version, floor=0.5, trained=False))
    assert "passed the gate" in page.headline
    assert "Nothing was trained" in page.markdown
