"""Labels of scored rows: which count, on which scale, and whose they are."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from stsb_batch.errors import BadFileError
from stsb_batch.report.table import figure
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.job import score_dataset
from tests.builders import make_pairs, score, write_file

PERCENT = "0,100"


@pytest.fixture
def percent(tmp_path: Path) -> Path:
    """200 labelled pairs on the scale 0 to 100."""
    make_pairs(200).with_columns(pl.col("label") * 20).write_parquet(tmp_path / "percent.parquet")
    return tmp_path / "percent.parquet"


def test_labels_are_those_of_the_input_that_was_scored(tmp_path: Path, bert: Path):
    """A file that changes after its shard is committed gives no figures of other labels."""
    first = tmp_path / "in/a.parquet"
    write_file(first, label=pl.lit(1.0))
    write_file(tmp_path / "in/b.parquet", seed=1, label=pl.lit(1.0))
    done = []

    def change(*_) -> None:
        if (tmp_path / "out/a.parquet").exists() and not done:
            done.append(write_file(first, label=pl.lit(4.0)))

    with pytest.raises(BadFileError, match="INPUT_CHANGED"):
        score(tmp_path / "in", bert, tmp_path / "out", on_progress=change)
    assert done
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_large_numbers_called_label_are_no_labels(tmp_path: Path, bert: Path):
    """A column `label` of numbers that are no scores is counted as left out, however large they are."""
    outcome = score(write_file(tmp_path / "in.parquet", label=pl.col("id").cast(pl.Int64) + 123_456_789), bert)
    assert figure(outcome.report, "labels_left_out") == 20


def test_decimals_are_labels(tmp_path: Path, bert: Path):
    """A column of decimals is as good a label as one of floats."""
    path = write_file(tmp_path / "in.parquet", label=pl.lit("2.5").cast(pl.Decimal(3, 1)), other=pl.lit(2.5))
    reports = [score(path, bert, label=label).report for label in ("label", "other")]
    assert figure(reports[0], "mse") == figure(reports[1], "mse")


def test_metrics_follow_the_label_column(tmp_path: Path, bert: Path):
    """The same scores against another label are another report; nothing is scored again."""
    path = write_file(tmp_path / "in.parquet", label=pl.lit(1.0), rating=pl.lit(4.0))
    first, second = (score(path, bert, label=label) for label in (None, "rating"))
    assert second.shards_scored == 0
    assert figure(first.report, "mse") != figure(second.report, "mse")


def test_scores_are_held_against_mapped_labels(percent: Path, bert: Path, tmp_path: Path, settings, caplog):
    """Kind: labels on another scale. A run doubts them in a line; with their scale named, its report is made anew."""
    exact = settings.model_copy(update={"precision": "fp32"})  # random weights are far from fp32 in bf16
    request = ScoreRequest(str(percent), str(tmp_path / "out.parquet"), model=str(bert), settings=exact)
    first = score_dataset(request).report
    assert "percent.parquet: the scale is 0 to 5, but 200 labels from 0 to 100" in caplog.text
    again = score_dataset(replace(request, label_scale=PERCENT))
    assert (again.shards_scored, figure(again.report, "labels_left_out")) == (0, 0)
    assert figure(first, "labels_left_out") > 0
    assert score_dataset(replace(request, label_scale=PERCENT)).report["run_id"][0] == again.report["run_id"][0]
