"""Golden scores from a fresh process."""

from pathlib import Path

import polars as pl
import pytest

from stsb_batch.inference.scorer import open_plain_scorer, score_texts
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.refresh.golden import reproduce_scores
from stsb_batch.settings import Settings
from tests.builders import make_pairs
from tests.fakes import answer_here


@pytest.fixture
def scored(bert: Path, settings: Settings) -> pl.DataFrame:
    """Fifty pairs with the small BERT's scores."""
    pairs = make_pairs(50).select(left="sentence1", right="sentence2", label="label")
    scores = score_texts(
        open_plain_scorer(open_checkpoint(bert), settings), pairs["left"].to_list(), pairs["right"].to_list()
    )
    return pairs.with_columns(score=scores)


def test_fresh_process_gives_the_same_scores(bert: Path, scored: pl.DataFrame, settings: Settings):
    """A child that loads the folder anew reproduces the scores; other scores are told by their gap."""
    assert reproduce_scores(bert, scored, settings).passed
    check = reproduce_scores(bert, scored.with_columns(pl.col("score") + 0.25), settings, answer_here)
    assert not check.passed
    assert "largest difference 0.25" in check.detail


def test_folder_that_cannot_be_loaded_fails_the_check(scored: pl.DataFrame, settings: Settings, tmp_path: Path):
    """A folder that a fresh process cannot load is a failed check with the reason, not a crash of the refresh."""
    check = reproduce_scores(tmp_path / "nowhere", scored, settings)
    assert not check.passed
    assert "a fresh process cannot score with the checkpoint" in check.detail
    assert "config.json is missing" in check.detail
