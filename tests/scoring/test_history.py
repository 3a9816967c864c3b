"""Earlier runs: which belong together, which is the last night, and what the next night is told of it."""

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from stsb_batch.models.registry import promote
from stsb_batch.pairs.schema import Columns
from stsb_batch.report.table import figure, parts
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.finish import ScoreOutcome
from stsb_batch.scoring.history import past_runs, report_name, series_of
from stsb_batch.scoring.job import score_dataset
from stsb_batch.scoring.page import drift_alert, score_page, shard_rows
from stsb_batch.scoring.plan import ScorePlan, plan_score
from stsb_batch.settings import Settings
from tests.builders import add_version, make_pairs

COLUMNS = Columns()
LATER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def champion(bert: Path, settings: Settings) -> None:
    promote(settings.home, add_version(settings.home, bert), "test")


def run(settings: Settings, source: Path, output: Path, **options) -> tuple[ScoreOutcome, ScorePlan]:
    plain = settings.model_copy(update={"engine": "torch", "precision": "fp32"})
    request = ScoreRequest(str(source), str(output), settings=plain, **options)
    return score_dataset(request), plan_score(request)


def score_night(tmp_path: Path, settings: Settings, night: str, pairs: pl.DataFrame, **options):
    folder = tmp_path / f"in/night={night}"
    pairs.write_parquet(folder / "part.parquet", mkdir=True)
    return run(settings, folder, tmp_path / f"out/{night}", **options)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/w/pairs/night=2026-01-01", "/w/pairs/night=2026-12-31"),
        ("/w/20260101.parquet", "/w/20261231.parquet"),
        ("/w/2026/01/01/*.parquet", "/w/2026/12/31/*.parquet"),
        ("/w/year=2026/month=01/day=01", "/w/year=2026/month=12/day=31"),
    ],
)
def test_dated_locations_are_one_series(one: str, other: str):
    """The date of a location, however it is written, names the night and is no part of the series."""
    assert series_of(one, COLUMNS).name == series_of(other, COLUMNS).name
    assert (series_of(one, COLUMNS).night, series_of(one, COLUMNS).title) == ("20260101", "2026-01-01")
    assert series_of(one, COLUMNS).night < series_of(other, COLUMNS).night


@pytest.mark.parametrize("other", ["/w/titles/night=2026-01-01", "/w/pairs", "/w/pairs/night=20260101123"])
def test_other_places_are_other_series(other: str):
    """Another folder, or digits that are no date, do not belong to the series; neither do other columns."""
    ours = series_of("/w/pairs/night=2026-01-01", COLUMNS)
    assert series_of(other, COLUMNS).name != ours.name
    assert series_of("/w/pairs/night=2026-01-01", Columns("title_a", "title_b")).name != ours.name


def test_each_night_is_compared_with_the_one_before(champion, tmp_path: Path, settings: Settings):
    """A night is compared with the last earlier date, also when nights are scored out of order or twice."""
    for night in ("2026-01-01", "2026-01-04"):
        score_night(tmp_path, settings, night, make_pairs(60, seed=1))
    again, _ = score_night(tmp_path, settings, "2026-01-01", make_pairs(60, seed=2), overwrite=True)
    assert parts(again.report, "drift_baseline") == []
    missed, plan = score_night(tmp_path, settings, "2026-01-02", make_pairs(60, seed=3))
    assert parts(missed.report, "drift_baseline") == [(again.report["run_id"][0], 1.0)]
    past = past_runs(settings.home, series_of(plan.request.location, COLUMNS), before=LATER, count=9)
    assert [one.title for one in past] == ["2026-01-01"]
    assert figure(missed.report, "drift_alerts") == 0
    assert drift_alert(missed) is None


def test_reports_of_one_second_sort_by_time():
    """The later of two runs has the later name, however close they are, and whatever their run ids."""
    first = dt.datetime(2026, 1, 1, 12, 0, 0, 999, tzinfo=dt.UTC)
    names = [report_name(first, "f" * 32), report_name(first + dt.timedelta(microseconds=1), "0" * 32)]
    assert names == sorted(names)


def test_moved_rows_alert_and_are_committed_all_the_same(champion, tmp_path: Path, settings: Settings):
    """A night of other texts is scored and committed; its report counts the alerts and there is something to tell."""
    score_night(tmp_path, settings, "2026-01-01", make_pairs(200))
    same = make_pairs(200).with_columns(sentence2=pl.col("sentence1") + " and " + pl.col("sentence1"))
    moved, plan = score_night(tmp_path, settings, "2026-01-02", same)
    assert (tmp_path / "out/2026-01-02/_SUCCESS").exists()
    assert figure(moved.report, "drift_alerts") >= 1
    assert "lengths moved (KS)" in drift_alert(moved)
    page = score_page(moved, plan)
    assert "FAILED: " in page.headline
    assert page.markdown.splitlines()[2].startswith("![scores, share of rows](data:image/svg+xml;base64,")


def test_a_folder_without_a_date_is_compared_by_time(champion, tmp_path: Path, settings: Settings):
    """The same place scored again is compared with the run before, not with itself."""
    make_pairs(50).write_parquet(tmp_path / "in/part.parquet", mkdir=True)
    first, _ = run(settings, tmp_path / "in", tmp_path / "a")
    started = first.report["run_at"][0]
    series = series_of(str(tmp_path / "in"), COLUMNS)
    assert past_runs(settings.home, series, before=started) == []
    assert len(past_runs(settings.home, series, before=started + dt.timedelta(seconds=1))) == 1


def test_a_broken_history_holds_nothing_up(champion, tmp_path: Path, settings: Settings, caplog):
    """Reports that cannot be read are passed over, with a line in the log, and the night is scored."""
    score_night(tmp_path, settings, "2026-01-01", make_pairs(50))
    (report,) = (settings.home / "reports").glob("*.parquet")
    content = report.read_bytes()
    report.write_bytes(content[:4] + bytes(200) + content[204:])
    (settings.home / "reports/20990101T000000-junk.parquet").write_bytes(b"junk")
    night, _ = score_night(tmp_path, settings, "2026-01-02", make_pairs(50))
    assert parts(night.report, "drift_baseline") == []
    assert "not compared with" in caplog.text


def test_shards_have_a_row_each(champion, tmp_path: Path, settings: Settings):
    """The table of shards has output, rows, rows without a score and speed of each."""
    small = settings.model_copy(update={"shard_rows": 100})
    pairs = make_pairs(200).with_columns(sentence1=pl.when(pl.col("id") == 150).then(None).otherwise("sentence1"))
    (tmp_path / "in").mkdir()
    pairs.write_parquet(tmp_path / "in/part.parquet", row_group_size=100)
    rows = shard_rows(*run(small, tmp_path / "in", tmp_path / "out"))
    assert [(row["rows"], row["no score"]) for row in rows] == [(100, 0), (100, 1)]
    assert all(row["rows/s"] > 0 and row["seconds"] > 0 for row in rows)
