"""Labels on another scale than the scores, in a refresh and in a scoring run."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from stsb_batch.cli.model_views import show_version
from stsb_batch.refresh.job import find_done, plan_refresh, refresh
from stsb_batch.refresh.page import refresh_page
from stsb_batch.requests import RefreshRequest
from tests.builders import make_pairs
from tests.fakes import answer_here

PERCENT = "0,100"


@pytest.fixture
def percent(tmp_path: Path) -> Path:
    """200 labelled pairs on the scale 0 to 100."""
    make_pairs(200).with_columns(pl.col("label") * 20).write_parquet(tmp_path / "percent.parquet")
    return tmp_path / "percent.parquet"


def test_the_map_stands_on_the_card(percent: Path, bert: Path, tmp_path: Path, capsys):
    """Kind: labels on another scale. Mapped they are those of 0 to 5; the card, its view and its page say the map; the same
    labels on another scale are other labels, for which a refresh is due."""
    request = RefreshRequest(str(percent), str(bert), label_scale=PERCENT, floor=-1.0)
    version = refresh(request, ask=answer_here).version
    assert version.card["labels"]["scale"] == [0, 100]
    show_version(version, [], as_json=False)
    assert "label scale        0 to 100, mapped to 0 to 5" in capsys.readouterr().out
    assert "| scale of the labels | 0 to 100, mapped to 0 to 5 |" in refresh_page(refresh(request)).markdown
    assert find_done(plan_refresh(request)).version.reference == version.reference
    assert find_done(plan_refresh(replace(request, label_scale="-20,120"))) is None
    make_pairs(200).write_parquet(tmp_path / "plain.parquet")
    plain = plan_refresh(replace(request, labels=str(tmp_path / "plain.parquet"), label_scale=None))
    assert plain.labels.train["label"].to_list() == pytest.approx(plan_refresh(request).labels.train["label"].to_list())
