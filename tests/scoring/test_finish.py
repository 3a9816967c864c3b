"""Many rows without a score, files left out: one verdict in exit code, line, page and state."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from stsb_batch.errors import BadDataError, UsageError
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.job import score_dataset
from stsb_batch.scoring.page import score_page
from stsb_batch.scoring.plan import plan_score
from tests.builders import make_pairs


@pytest.fixture
def request_(bert: Path, tmp_path: Path, settings) -> ScoreRequest:
    """A folder with `a.parquet`, 3 of whose 100 rows have no text, and its output."""
    blank = pl.when(pl.col("id") < 3).then(None).otherwise("sentence1")
    make_pairs(100).drop("label").with_columns(sentence1=blank).write_parquet(tmp_path / "in/a.parquet", mkdir=True)
    plain = settings.model_copy(update={"engine": "torch", "precision": "fp32"})
    return ScoreRequest(str(tmp_path / "in"), str(tmp_path / "out"), model=str(bert), settings=plain)


@pytest.mark.parametrize(("limit", "code"), [(0.029, 10), (0.03, 0)])
def test_one_limit_decides_exit_code_line_and_page(request_: ScoreRequest, limit: float, code: int):
    """Kind: two limits for one thing. Above the warn limit all of them say so, and at it none does."""
    request = replace(request_, warn_bad_rows=limit)
    outcome = score_dataset(request)
    page = score_page(outcome, plan_score(request))
    assert outcome.exit_code() == code
    assert (outcome.explain() is None, outcome.warnings == {}, "All checks passed" in page.headline) == (code == 0,) * 3
    assert code == 0 or "WARN: rows without a score" in page.headline


def test_files_left_out_do_not_hide_rows_without_a_score(request_: ScoreRequest, tmp_path: Path):
    """Kind: an exit code without a word why. Of two reasons both are told, with names, counts, limits and options."""
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    outcome = score_dataset(request_)
    assert outcome.explain() == (
        "Exit code 11: files left out: 1 (b.parquet CORRUPT_FILE; --on-bad-file); 3 of 100 rows (3.00%) have no score "
        "(NULL_INPUT 3), the limit is 1.00% (--warn-bad-rows)."
    )
    assert list(outcome.warnings) == ["files left out", "many rows without a score"]
    assert "2 of 3 WARN: rows without a score, files left out." in score_page(outcome, plan_score(request_)).headline


def test_lenient_ends_with_0_and_still_says_why(request_: ScoreRequest, tmp_path: Path):
    """Where 10 or 11 would come, lenient gives 0; the line stays."""
    assert score_dataset(replace(request_, strictness="lenient")).exit_code() == 0
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    outcome = score_dataset(replace(request_, strictness="lenient", overwrite=True))
    assert outcome.exit_code() == 0
    assert outcome.explain().startswith("Exit code 0 (--lenient): files left out: 1")


def test_strict_fails_and_commits_nothing(request_: ScoreRequest, tmp_path: Path):
    """Where 10 or 11 would come, strict fails, though the other budgets would let it pass, and marks nothing as done."""
    strict = replace(request_, strictness="strict")
    with pytest.raises(BadDataError, match=r"3 rows have no score .* 1 of 100 may have none \(--strict, --warn-bad-rows\)"):
        score_dataset(strict)
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadDataError, match=r"1 of 2 files are bad, 0 may be .*--strict"):
        score_dataset(replace(strict, warn_bad_rows=0.5))
    assert not list((tmp_path / "out").glob("*"))


def test_strict_judges_what_was_there_before(request_: ScoreRequest, tmp_path: Path):
    """A run that is done is not done for strict; its output stays as it is."""
    score_dataset(request_)
    before = (tmp_path / "out/a.parquet").read_bytes()
    with pytest.raises(BadDataError, match="--strict"):
        score_dataset(replace(request_, strictness="strict"))
    assert (tmp_path / "out/a.parquet").read_bytes() == before
    assert (tmp_path / "out/_SUCCESS").exists()


def test_a_few_rows_are_judged_alike(request_: ScoreRequest, tmp_path: Path):
    """Of 20 rows one may lack a score by the budget, but not by the warn limit: 10, and strict fails."""
    make_pairs(20).with_columns(sentence1=pl.when(pl.col("id") > 0).then("sentence1")).write_parquet(
        tmp_path / "in/a.parquet"
    )
    with pytest.raises(BadDataError, match="0 of 20 may have none"):
        score_dataset(replace(request_, strictness="strict"))
    assert score_dataset(request_).exit_code() == 10


def test_an_unknown_strictness_is_refused(request_: ScoreRequest):
    """What the forms and flags do not have is named."""
    with pytest.raises(UsageError, match="strictness takes normal, lenient, strict, not 'hard'"):
        plan_score(replace(request_, strictness="hard"))
