"""Measuring a model on labelled pairs."""

from pathlib import Path

import polars as pl
import pytest

from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.evaluate import evaluate_labels, save_pictures
from stsb_batch.report.table import figure
from stsb_batch.settings import Settings
from tests.builders import make_pairs


def test_report_has_metrics_and_calibration(bert: Path, tmp_path: Path, settings: Settings):
    """By split: five metrics and the bands; order gaps of test; the half-width fitted on val and checked on test."""
    split = ["train"] * 40 + ["val"] * 40 + ["test"] * 40
    make_pairs(120).with_columns(split=pl.Series(split)).write_parquet(tmp_path / "l.parquet")
    found = evaluate_labels(str(tmp_path / "l.parquet"), model=str(bert), columns=Columns(), settings=settings)
    assert (found.main_part, found.conformal.fitted_on, found.conformal.checked_on) == ("test", 40, 40)
    for part in split:
        assert figure(found.report, "pearson", part) is not None
    assert figure(found.report, "conformal_half_width", "val") == found.conformal.half_width
    assert figure(found.report, "order_gap_max", "test") == pytest.approx(found.symmetry.max_gap)
    bands = found.report.filter(pl.col("metric") == "reliability_label", pl.col("slice").str.starts_with("test "))
    assert bands["rows"].sum() == 40


def test_one_part_is_its_own_check(bert: Path, pairs_file: Path, settings: Settings):
    """Without splits every other pair fits the half-width and the rest check it."""
    found = evaluate_labels(str(pairs_file), model=str(bert), columns=Columns(), settings=settings)
    assert (found.main_part, found.conformal.fitted_on, found.conformal.checked_on) == ("all", 250, 250)
    assert found.symmetry.pairs == 500


def test_pictures_are_saved(bert: Path, pairs_file: Path, settings: Settings):
    """A scatter and a residual plot are saved where they are wanted."""
    found = evaluate_labels(str(pairs_file), model=str(bert), columns=Columns(), settings=settings)
    assert all(path.stat().st_size > 5_000 for path in save_pictures(found, pairs_file.parent / "plots"))


def test_labels_on_another_scale_are_named_and_mapped(bert: Path, tmp_path: Path, settings: Settings, caplog):
    """Kind: labels on another scale. They are named before they are measured; with their scale they are mapped on 0 to 5."""
    matches = make_pairs(120).with_columns(label=pl.col("id") % 2)
    matches.write_parquet(tmp_path / "l.parquet")
    found = evaluate_labels(str(tmp_path / "l.parquet"), model=str(bert), columns=Columns(), settings=settings)
    assert "l.parquet: the scale is 0 to 5, but the labels are only 0 (60), 1 (60)." in caplog.text
    assert found.parts["all"]["label"].max() == 1
    caplog.clear()
    scaled = Columns(label_scale=(0.0, 1.0))
    found = evaluate_labels(str(tmp_path / "l.parquet"), model=str(bert), columns=scaled, settings=settings)
    assert (found.parts["all"]["label"].max(), caplog.text) == (5, "")


def test_the_test_part_counts_whatever_it_is_called(bert: Path, tmp_path: Path, settings: Settings):
    """Kind: a part that changes from run to run. Test is the one that counts where it is there, else val, else the last."""
    for names, main in ((("TEST", "dev", "zoo"), "test"), (("Dev", "zoo"), "val"), (("b", "a"), "b")):
        split = pl.Series([name for name in names for _ in range(20)])
        make_pairs(len(split)).with_columns(split=split).write_parquet(tmp_path / "l.parquet")
        found = evaluate_labels(str(tmp_path / "l.parquet"), model=str(bert), columns=Columns(), settings=settings)
        assert found.main_part == main
