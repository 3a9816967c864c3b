"""The public Python names: what loads, what a Scorer takes, and that a function is its verb."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import stsb_batch
from stsb_batch import ModelIntegrityError, NothingToReadError, Scorer, UsageError
from stsb_batch.inference.dispatch import TokenBudget
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.inference.scorer import open_plain_scorer, score_texts
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.models.registry import CARD_FILE
from stsb_batch.refresh.job import RefreshRequest
from stsb_batch.scoring.plan import ScoreRequest
from stsb_batch.settings import load_settings
from tests.builders import make_champion, make_pairs, make_texts, tokenizer
from tests.fakes import FakeEngine, NanEngine

LEFT = ["a red pump", None, "the night train", " "]
RIGHT = ["a blue pump", "a train", "the river", "a city"]
KEPT = ["id", "sentence1", "sentence2"]
STATUSES = ["OK", "NULL_INPUT", "OK", "EMPTY_INPUT"]


@pytest.fixture(scope="module")
def scorer(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    home = tmp_path_factory.mktemp("home")
    return Scorer.open(str(bert), engine="torch", precision="fp32", home=home)


@pytest.fixture(scope="module")
def expected(scorer: Scorer) -> np.ndarray:
    return scorer.score(LEFT, RIGHT).scores


def test_importing_the_package_loads_nothing_heavy():
    """`import stsb_batch` loads no library that takes noticeable time."""
    code = "import sys, stsb_batch; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "numpy", "pyarrow", "polars", "pydantic", "prefect", "pandas"} & set(loaded)


def test_each_public_name_is_there_and_documented():
    """`__all__` lists what can be taken from the package, and each name has a docstring or is an error."""
    for name in stsb_batch.__all__:
        value = getattr(stsb_batch, name)
        assert (isinstance(value, type) and issubclass(value, Exception)) or inspect.getdoc(value), name
    assert set(stsb_batch.__all__) <= set(dir(stsb_batch))
    with pytest.raises(AttributeError, match="no attribute 'scorer'"):
        _ = stsb_batch.scorer


def test_refresh_stays_the_function_when_the_subpackage_loads():
    """Loading `stsb_batch.refresh.job` does not replace `stsb_batch.refresh`."""
    code = (
        "import stsb_batch, stsb_batch.refresh.job\n"
        "from stsb_batch import refresh\n"
        "assert refresh is stsb_batch.refresh is stsb_batch.api.refresh"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_says_that_it_is_typed():
    assert Path(stsb_batch.__file__).with_name("py.typed").is_file()


def test_a_scorer_gives_the_scores_of_the_plain_scorer(scorer: Scorer, bert: Path):
    """The public Scorer and the scorer of a run are the same code."""
    left, right = make_texts(50, 1), make_texts(50, 2)
    found = scorer.score(left, right)
    expected = score_texts(open_plain_scorer(open_checkpoint(bert), load_settings()), left, right)
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    assert found.scores.dtype == np.float32 and set(found.statuses) == {"OK"} and len(found) == 50


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        iter,
        lambda texts: [float("nan") if text is None else text for text in texts],
        lambda texts: [pd.NA if text is None else text for text in texts],
        lambda texts: np.array(texts, object),
        pa.array,
        lambda texts: pa.chunked_array([texts[:1], texts[1:]], pa.large_string()),
        lambda texts: pa.array(texts).dictionary_encode(),
        lambda texts: pa.chunked_array([pa.array(texts[:2]).dictionary_encode(), pa.array(texts[2:]).dictionary_encode()]),
        lambda texts: pa.array(texts, pa.string_view()),
        pl.Series,
        lambda texts: pl.Series(texts, dtype=pl.Categorical),
        pd.Series,
        lambda texts: pd.Series(texts, dtype=object, index=[7] * len(texts)),
        lambda texts: pd.Series(texts, dtype="string"),
        lambda texts: pd.Series(texts, dtype="category"),
    ],
)
def test_a_scorer_takes_texts_of_each_kind(scorer: Scorer, expected: np.ndarray, make):
    """Lists, NumPy, Arrow, Polars and pandas give the same scores; a missing text gives NaN and its status."""
    found = scorer.score(make(LEFT), make(RIGHT))
    np.testing.assert_array_equal(found.scores, expected)
    assert found.statuses.tolist() == STATUSES
    assert np.isnan(found.scores).tolist() == [False, True, False, True]


@pytest.mark.parametrize("nothing", [[None, None], pd.Series([np.nan, np.nan]), pl.Series([None, None]), pa.nulls(2)])
def test_texts_that_are_all_missing_have_no_scores(scorer: Scorer, nothing):
    found = scorer.score(nothing, ["a", "b"])
    assert np.isnan(found.scores).all() and found.statuses.tolist() == ["NULL_INPUT"] * 2


def test_no_pairs_give_no_scores(scorer: Scorer):
    assert (
        len(scorer.score([], [])) == len(scorer.score(pl.Series([], dtype=pl.String), pa.chunked_array([], "string"))) == 0
    )


def test_text_that_is_not_unicode_has_a_status(scorer: Scorer):
    found = scorer.score(["half a pair \ud800", "a pump"], ["a", "b"])
    assert found.statuses.tolist() == ["INVALID_UTF8", "OK"]


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (["a", "b"], ["a"], "left has 2 texts and right 1"),
        ("one", ["a"], "left is one text"),
        ([1, 2], ["a", "b"], "left holds int64, not text"),
        (["a", "b"], ["a", 2], "right has a cell that is not text"),
        (["a"], pl.Series([0.5]), "right holds double, not text"),
    ],
)
def test_what_is_not_two_columns_of_text_is_refused(scorer: Scorer, left, right, message: str):
    """Wrong lengths and wrong kinds are a `UsageError` that names the side."""
    with pytest.raises(UsageError, match=message):
        scorer.score(left, right)


def test_many_pairs_are_scored_in_windows(scorer: Scorer, bert: Path):
    """Scores and statuses are in input order, whatever the windows; a slice of an Arrow array works too."""
    left, right = pa.array([*make_texts(30, 1), None, *make_texts(30, 3)]), pa.array(make_texts(61, 2))
    whole = scorer.score(left, right)
    found = Scorer(open_plain_scorer(open_checkpoint(bert), load_settings()), model="", digest="", window_rows=7).score(
        left, right
    )
    np.testing.assert_allclose(found.scores, whole.scores, atol=1e-5)
    assert found.statuses.tolist() == whole.statuses.tolist() and found.statuses[30] == "NULL_INPUT"
    np.testing.assert_allclose(scorer.score(left[40:], right[40:]).scores, whole.scores[40:], atol=1e-5)


def test_a_closed_scorer_scores_no_more(bert: Path):
    with Scorer.open(str(bert), engine="torch", precision="fp32") as opened:
        assert opened.digest == open_checkpoint(bert).digest
    with pytest.raises(UsageError, match="closed"):
        opened.score(["a"], ["b"])


def test_a_scorer_opens_the_champion_of_a_home(bert: Path, tmp_path: Path):
    """`home` names another registry than the settings do; without a champion there is an error."""
    make_champion(tmp_path / "other", bert)
    assert Scorer.open("champion", engine="torch", home=tmp_path / "other").model == "sts@1"
    with pytest.raises(NothingToReadError):
        Scorer.open("champion")


def test_score_evaluate_and_verify_are_their_verbs(bert: Path, pairs_file: Path, tmp_path: Path):
    """A run by function is committed, verified and measured like one by the verb."""
    out = tmp_path / "out.parquet"
    settings = load_settings().model_copy(update={"engine": "torch"})
    outcome = stsb_batch.score(pairs_file, out, model=str(bert), keep=KEPT, score_column="match", settings=settings)
    assert outcome.exit_code() == 0 and outcome.rows == 500
    assert pl.read_parquet(out).columns == [*KEPT, "match", "match_status"]
    found = stsb_batch.verify(out, sample=5)
    assert found.problems == [] and found.rescored == 5
    measured = stsb_batch.evaluate(pairs_file, model=str(bert), plots=tmp_path / "plots")
    assert measured.parts["all"].height == 500 and (tmp_path / "plots" / "scatter.png").is_file()


def test_verify_checks_a_home(bert: Path, tmp_path: Path):
    home = tmp_path / "home"
    make_champion(home, bert)
    assert stsb_batch.verify(home).problems == []
    (home / "models" / "sts" / "1" / CARD_FILE).write_text("{}")
    assert stsb_batch.verify(home).problems


def test_refresh_hands_its_options_to_the_job(tmp_path: Path):
    """The request is checked before anything is trained."""
    make_pairs(20).write_parquet(tmp_path / "few.parquet")
    with pytest.raises(stsb_batch.BadDataError, match="too few"):
        stsb_batch.refresh(tmp_path / "few.parquet", base_model="minilm")
    with pytest.raises(UsageError, match="churn-sample"):
        stsb_batch.refresh(tmp_path / "few.parquet", max_churn=0.1)
    with pytest.raises(UsageError, match="floor"):
        stsb_batch.refresh(tmp_path / "few.parquet", floor=2.0)


@pytest.mark.parametrize(
    ("function", "request_kind", "own"),
    [(stsb_batch.score, ScoreRequest, set()), (stsb_batch.refresh, RefreshRequest, {"dry_run"})],
)
def test_the_signature_lists_the_fields_of_the_request(function, request_kind, own: set[str]):
    """`help()` shows each option, and the ones that a request has."""
    shown = set(inspect.signature(function).parameters)
    assert {name for name in request_kind.__dataclass_fields__ if name != "requested_at"} | own <= shown
    assert {"left", "right", "label", "label_scale"} <= shown and "options" not in shown


def test_an_unknown_option_is_a_type_error_with_the_nearest_name(tmp_path: Path):
    with pytest.raises(TypeError, match=r"no option 'max_bad_row'; did you mean 'max_bad_rows'\?"):
        stsb_batch.score(tmp_path, max_bad_row=0.1)
    with pytest.raises(TypeError, match=r"no option 'flor'; did you mean 'floor'\?"):
        stsb_batch.refresh(tmp_path, flor=0.1)
    with pytest.raises(UsageError, match="--max-tokens takes at least 16, not 3"):
        stsb_batch.score(tmp_path, max_tokens=3)


def test_a_scorer_compares_with_fp32_unless_told_not_to():
    """An engine that scores what fp32 torch cannot raises, and does not with parity off."""

    def opened(parity: bool) -> Scorer:
        scorer = PairScorer(tokenizer(), FakeEngine(), NanEngine, TokenBudget(512), parity=parity)
        return Scorer(scorer, model="fake", digest="")

    with pytest.raises(ModelIntegrityError, match="fp32 torch cannot"):
        opened(parity=True).score(LEFT, RIGHT)
    assert len(opened(parity=False).score(LEFT, RIGHT)) == 4
