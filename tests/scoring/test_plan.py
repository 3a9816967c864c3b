"""The start of a job: what is found, and what is refused before anything is written."""

from pathlib import Path

import pytest

from stsb_batch.cli.views import read_report
from stsb_batch.errors import UsageError
from stsb_batch.report.table import figure
from stsb_batch.scoring.plan import allowance
from tests.builders import score, write_file


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path, bert: Path):
    """`a[1].parquet` is itself, also where an `a1.parquet` lies beside it."""
    score(write_file(tmp_path / "a1.parquet", 10), bert)
    assert score(write_file(tmp_path / "a[1].parquet", 30), bert).report["dataset"][0] == "a[1].parquet"
    assert figure(read_report(tmp_path / "a[1].scored.parquet"), "rows") == 30


def test_linked_folders_are_read(tmp_path: Path, bert: Path):
    """A linked subfolder is input like any other; a link in a circle ends the walk, not the run."""
    write_file(tmp_path / "in/k=1/p.parquet", 10)
    write_file(tmp_path / "store/p.parquet", 20, seed=1)
    (tmp_path / "in/k=2").symlink_to(tmp_path / "store")
    (tmp_path / "store/again").symlink_to(tmp_path / "in")
    assert score(tmp_path / "in", bert, tmp_path / "out").rows == 30
    (tmp_path / "in/_old").symlink_to(tmp_path / "store")  # a hidden name for it hides no rows
    assert score(tmp_path / "in", bert, tmp_path / "out").rows == 30
    (tmp_path / "in/k=3").mkdir()
    (tmp_path / "in/k=3/q.parquet").symlink_to(write_file(tmp_path / "q.parquet", 10, seed=2))
    assert score(tmp_path / "in", bert, tmp_path / "out").rows == 40


@pytest.mark.parametrize("location", ["in", "in/*.parquet"])
def test_output_inside_the_input_is_refused_from_the_first_file_on(location: str, tmp_path: Path, bert: Path):
    write_file(tmp_path / "in/p.parquet")
    with pytest.raises(UsageError, match="inside the input"):
        score(tmp_path / location, bert, tmp_path / "in/out")


def test_two_inputs_with_one_output_are_refused(tmp_path: Path, bert: Path):
    """A shard's name and another file's may be the same; then nothing is scored."""
    write_file(tmp_path / "in/a.parquet", 20)
    write_file(tmp_path / "in/a-00001-of-00002.parquet", 10, seed=1)
    with pytest.raises(UsageError, match="two input files"):
        score(tmp_path / "in", bert, tmp_path / "out", shard_rows=10)


def test_a_share_is_rounded_as_it_is_written():
    """29 % of 100 rows are 29, though 0.29 * 100 is less in binary."""
    assert [allowance(share, 100) for share in (0.29, 0.57, 0.001, 0.0)] == [29, 57, 1, 0]
