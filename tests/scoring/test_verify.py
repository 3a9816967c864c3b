"""Verification scores a sample again, in every precision, and tells what differs."""

from pathlib import Path

import pytest

from stsb_batch.errors import UsageError
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.job import score_dataset
from stsb_batch.scoring.verify import TOLERANCE, verify_output
from stsb_batch.settings import Settings, load_settings
from tests.builders import score, write_file
from tests.fakes import save_tiny, tiny_bert


def scored(pairs_file: Path, model: Path, settings: Settings) -> Path:
    output = pairs_file.with_name("out.parquet")
    score_dataset(ScoreRequest(str(pairs_file), str(output), model=str(model), settings=settings, parity=False))
    return output


@pytest.mark.parametrize(
    ("engine", "precision"), [("torch", "fp32"), ("torch", "bf16"), ("openvino", "bf16"), ("openvino", "int8")]
)
def test_sample_scores_the_same_again(engine: str, precision: str, pairs_file: Path, bert: Path, settings: Settings):
    """Whatever engine and precision a file was scored in, its rows hold."""
    settings = settings.model_copy(update={"engine": engine, "precision": precision})
    found = verify_output(scored(pairs_file, bert, settings), sample=60, settings=settings)
    assert (found.problems, found.notes) == ([], [])
    assert (found.files, found.rows, found.rescored) == (1, 500, 60)


def test_scores_that_are_not_the_model_s_are_told(pairs_file: Path, bert: Path, settings: Settings):
    """A model that scores differently now gives one line with a row's number and both scores."""
    output = scored(pairs_file, bert, settings)
    nothing = dict.fromkeys(TOLERANCE, -1.0)
    [problem] = verify_output(output, sample=20, settings=settings, tolerance=nothing).problems
    assert problem.startswith("out.parquet: 20 of 20 sampled rows score differently now, the first is row ")


def test_model_that_was_replaced_is_told(pairs_file: Path, settings: Settings, tmp_path: Path):
    """Where the recorded folder holds another model by now, no row is scored again, and that is a problem."""
    model = save_tiny(tiny_bert, tmp_path / "model")
    output = scored(pairs_file, model, settings)
    config = model / "config.json"
    config.write_text(config.read_text() + "\n")
    found = verify_output(output, sample=20, settings=settings)
    assert found.rescored == 0
    assert found.problems == ["model: its digest is not the recorded one; no row was scored again."]


def test_verify_tells_what_was_left_out_and_where_a_file_belongs(tmp_path: Path, bert: Path):
    """Files that were left out are a note, and one file of a folder is refused with the folder's name."""
    write_file(tmp_path / "in/a.parquet")
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    score(tmp_path / "in", bert, tmp_path / "out")
    checked = verify_output(tmp_path / "out", settings=load_settings())
    assert (checked.problems, checked.notes) == ([], ["Bad files of the input were left out: b.parquet (1 in all)."])
    with pytest.raises(UsageError, match=f"one of several files of a run. Verify them all: {tmp_path}/out"):
        verify_output(tmp_path / "out/a.parquet", settings=load_settings())
