"""What a run may touch: its own output, nothing else; and what it makes good that was lost or damaged."""

import contextlib
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from stsb_batch.cli.views import read_report
from stsb_batch.errors import BadDataError, BadFileError, CannotCreateError, NothingToReadError, UsageError
from stsb_batch.report.table import figure
from stsb_batch.scoring.plan import allowance
from stsb_batch.scoring.verify import verify_output
from stsb_batch.settings import load_settings
from tests.builders import make_pairs, score


def write(path: Path, rows: int = 20, seed: int = 0, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_pairs(rows, seed).drop("label").with_columns(**columns).write_parquet(path, row_group_size=10)
    return path


def test_modules_in_the_present_folder_are_not_run(tmp_path: Path):
    """The child that opens files imports nothing from the folder that the command was given in."""
    (tmp_path / "resource.py").write_text("open('ran', 'w')")
    write(tmp_path / "in.parquet")
    code = (
        "from pathlib import Path; from stsb_batch.pairs.sandbox import Sandbox\n"
        "with Sandbox() as sandbox: sandbox.probe_footer(Path('in.parquet'), 'in.parquet')"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("beside", ["_out.quarantine.pq", "_out.report.pq"])
def test_files_beside_the_output_that_are_not_ours_stay(beside: str, tmp_path: Path, bert: Path):
    """A foreign file where the report or the quarantine goes is refused, as input and as a neighbour."""
    write(tmp_path / "in.parquet")
    content = write(tmp_path / beside).read_bytes()
    with pytest.raises(CannotCreateError, match="was written for another input"):
        score(tmp_path / "in.parquet", bert, tmp_path / "out.parquet")
    with pytest.raises(UsageError, match="report or quarantine would be written there"):
        score(tmp_path / beside, bert, tmp_path / "out.parquet", overwrite=True)
    assert (tmp_path / beside).read_bytes() == content


def test_quarantine_of_others_stays(tmp_path: Path, bert: Path):
    """A folder run without a bad row removes no file that it has not written."""
    write(tmp_path / "in/p.parquet")
    foreign = write(tmp_path / "out/_quarantine/p.pq")
    score(tmp_path / "in", bert, tmp_path / "out")
    assert foreign.is_file()


def test_overwrite_removes_our_files_only(tmp_path: Path, bert: Path):
    """`--overwrite` replaces what an earlier plan has written; beside a foreign file nothing is written at all."""
    write(tmp_path / "in/p.parquet")
    write(tmp_path / "in/q.parquet", seed=3)
    score(tmp_path / "in", bert, tmp_path / "out")
    (tmp_path / "in/q.parquet").unlink()
    score(tmp_path / "in", bert, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/q.parquet").exists()
    foreign = write(tmp_path / "out/mine/p.parquet")
    with pytest.raises(CannotCreateError, match="was not written by stsb-batch"):
        score(tmp_path / "in", bert, tmp_path / "out", overwrite=True)
    assert foreign.is_file()


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path, bert: Path):
    """`a[1].parquet` is itself, also where an `a1.parquet` lies beside it."""
    score(write(tmp_path / "a1.parquet", 10), bert)
    assert score(write(tmp_path / "a[1].parquet", 30), bert).report["dataset"][0] == "a[1].parquet"
    assert figure(read_report(tmp_path / "a[1].scored.parquet"), "rows") == 30


def test_linked_folders_are_read(tmp_path: Path, bert: Path):
    """A linked subfolder is input like any other; a link in a circle ends the walk, not the run."""
    write(tmp_path / "in/k=1/p.parquet", 10)
    write(tmp_path / "store/p.parquet", 20, seed=1)
    (tmp_path / "in/k=2").symlink_to(tmp_path / "store")
    (tmp_path / "store/again").symlink_to(tmp_path / "in")
    assert score(tmp_path / "in", bert, tmp_path / "out").rows == 30
    (tmp_path / "in/_old").symlink_to(tmp_path / "store")  # a hidden name for it hides no rows
    assert score(tmp_path / "in", bert, tmp_path / "out").rows == 30
    (tmp_path / "in/k=3").mkdir()
    (tmp_path / "in/k=3/q.parquet").symlink_to(write(tmp_path / "q.parquet", 10, seed=2))
    assert score(tmp_path / "in", bert, tmp_path / "out").rows == 40


@pytest.mark.parametrize("location", ["in", "in/*.parquet"])
def test_output_inside_the_input_is_refused_from_the_first_file_on(location: str, tmp_path: Path, bert: Path):
    write(tmp_path / "in/p.parquet")
    with pytest.raises(UsageError, match="inside the input"):
        score(tmp_path / location, bert, tmp_path / "in/out")


def test_two_inputs_with_one_output_are_refused(tmp_path: Path, bert: Path):
    """A shard's name and another file's may be the same; then nothing is scored."""
    write(tmp_path / "in/a.parquet", 20)
    write(tmp_path / "in/a-00001-of-00002.parquet", 10, seed=1)
    with pytest.raises(UsageError, match="two input files"):
        score(tmp_path / "in", bert, tmp_path / "out", shard_rows=10)


def test_columns_of_one_name_keep_their_cells_in_quarantine(tmp_path: Path, bert: Path):
    """Two columns may share a name; the side file has the cells of both."""
    texts = pa.array(["a", None, "b", "c"])
    table = pa.Table.from_arrays(
        [texts, texts, pa.array([1, 2, 3, 4]), pa.array(["w", "x", "y", "z"])], names=["sentence1", "sentence2", "x", "x"]
    )
    pq.write_table(table, tmp_path / "in.parquet")
    score(tmp_path / "in.parquet", bert, on_bad_row="quarantine")
    side = pq.ParquetFile(tmp_path / "_in.scored.quarantine.pq").read()
    assert [column.to_pylist() for column in side.columns[2:4]] == [[2], ["x"]]


@pytest.mark.parametrize("on_bad_row", ["keep", "quarantine"])
def test_string_views_are_filtered_and_verified(on_bad_row: str, tmp_path: Path, bert: Path):
    """Columns of views keep their type, in the output and in quarantine, and verify reads them."""
    cells = {name: pa.array(["a", None, "b", "c"], pa.string_view()) for name in ("sentence1", "sentence2", "more")}
    pq.write_table(pa.table(cells), tmp_path / "in.parquet")
    outcome = score(tmp_path / "in.parquet", bert, on_bad_row=on_bad_row)
    found = pq.ParquetFile(outcome.target.single).read()
    assert found["more"].to_pylist() == (["a", None, "b", "c"] if on_bad_row == "keep" else ["a", "b", "c"])
    assert str(found.schema.field("more").type) == "string_view"
    checked = verify_output(outcome.target.single, settings=load_settings())
    assert checked.problems == []
    assert checked.rescored == 3


def test_labels_are_those_of_the_input_that_was_scored(tmp_path: Path, bert: Path):
    """A file that changes after its shard is committed gives no figures of other labels."""
    first = tmp_path / "in/a.parquet"
    write(first, label=pl.lit(1.0))
    write(tmp_path / "in/b.parquet", seed=1, label=pl.lit(1.0))
    done = []

    def change(*_) -> None:
        if (tmp_path / "out/a.parquet").exists() and not done:
            done.append(write(first, label=pl.lit(4.0)))

    with pytest.raises(BadFileError, match="INPUT_CHANGED"):
        score(tmp_path / "in", bert, tmp_path / "out", on_progress=change)
    assert done
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_a_changed_input_can_be_scored_again(tmp_path: Path, bert: Path):
    """After INPUT_CHANGED nothing of the file is left that would stand in the way of the next run."""
    path, done = write(tmp_path / "in/a.parquet", 20), []

    def change(*_) -> None:
        if list((tmp_path / "out").glob("a-00001*")) and not done:
            done.append(write(path, 20, seed=7))

    with pytest.raises(BadFileError, match="INPUT_CHANGED"):
        score(tmp_path / "in", bert, tmp_path / "out", shard_rows=10, on_progress=change, on_bad_file="fail")
    assert score(tmp_path / "in", bert, tmp_path / "out", shard_rows=10).rows == 20


def test_large_numbers_called_label_are_no_labels(tmp_path: Path, bert: Path):
    """A column `label` of numbers that are no scores is counted as left out, however large they are."""
    outcome = score(write(tmp_path / "in.parquet", label=pl.col("id").cast(pl.Int64) + 123_456_789), bert)
    assert figure(outcome.report, "labels_left_out") == 20


def test_decimals_are_labels(tmp_path: Path, bert: Path):
    """A column of decimals is as good a label as one of floats."""
    path = write(tmp_path / "in.parquet", label=pl.lit("2.5").cast(pl.Decimal(3, 1)), other=pl.lit(2.5))
    reports = [score(path, bert, label=label).report for label in ("label", "other")]
    assert figure(reports[0], "mse") == figure(reports[1], "mse")


def test_metrics_follow_the_label_column(tmp_path: Path, bert: Path):
    """The same scores against another label are another report; nothing is scored again."""
    path = write(tmp_path / "in.parquet", label=pl.lit(1.0), rating=pl.lit(4.0))
    first, second = (score(path, bert, label=label) for label in (None, "rating"))
    assert second.shards_scored == 0
    assert figure(first.report, "mse") != figure(second.report, "mse")


def test_verify_tells_what_was_left_out_and_where_a_file_belongs(tmp_path: Path, bert: Path):
    """Files that were left out are a note, and one file of a folder is refused with the folder's name."""
    write(tmp_path / "in/a.parquet")
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    score(tmp_path / "in", bert, tmp_path / "out")
    checked = verify_output(tmp_path / "out", settings=load_settings())
    assert (checked.problems, checked.notes) == ([], ["Bad files of the input were left out: b.parquet (1 in all)."])
    with pytest.raises(UsageError, match=f"one of several files of a run. Verify them all: {tmp_path}/out"):
        verify_output(tmp_path / "out/a.parquet", settings=load_settings())


@pytest.mark.parametrize("name", ["_manifest.json", "_report.pq", "_SUCCESS"])
@pytest.mark.parametrize("content", [b"{}", None])
def test_what_is_damaged_beside_the_scores_is_written_anew(name: str, content: bytes | None, tmp_path: Path, bert: Path):
    """A rerun makes manifest, report and `_SUCCESS` good, and scores nothing again."""
    write(tmp_path / "in/p.parquet")
    score(tmp_path / "in", bert, tmp_path / "out")
    if content is None:
        (tmp_path / "out" / name).unlink()
    else:
        (tmp_path / "out" / name).write_bytes(content)
    again = score(tmp_path / "in", bert, tmp_path / "out")
    assert (again.shards_scored, figure(again.report, "rows")) == (0, 20)
    assert {"_manifest.json", "_report.pq", "_SUCCESS"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_share_is_rounded_as_it_is_written():
    """29 % of 100 rows are 29, though 0.29 * 100 is less in binary."""
    assert [allowance(share, 100) for share in (0.29, 0.57, 0.001, 0.0)] == [29, 57, 1, 0]


def test_readers_of_the_scores_see_nothing_else(tmp_path: Path, bert: Path):
    """Report, manifest and quarantined rows are no rows to DuckDB, pyarrow and Polars, in a folder or beside a file."""
    bad = {"sentence1": pl.when(pl.col("id") == 3).then(None).otherwise("sentence1")}
    for name in ("in/k=a/p.parquet", "in/k=b/p.parquet"):
        write(tmp_path / name, **bad)
    options = {"on_bad_row": "quarantine", "max_bad_rows": 0.5}
    folder = score(tmp_path / "in", bert, tmp_path / "scores/night=1", **options).target
    single = score(tmp_path / "in/k=a/p.parquet", bert, tmp_path / "scores/night=2/p.parquet", **options).target
    assert [len(target.side_files) for target in (folder, single)] == [2, 1]
    for place, rows in ((tmp_path / "scores", 57), (folder.root, 38), (single.root, 19)):
        for source in (f"'{place}/**/*.parquet'", f"read_parquet('{place}/')"):
            assert duckdb.sql(f"select count(*) from {source}").fetchall() == [(rows,)]  # noqa: S608
        assert pa.dataset.dataset(place, partitioning="hive").count_rows() == rows
        assert pl.scan_parquet(place / "**/*.parquet").select(pl.len()).collect().item() == rows


def test_lost_quarantine_is_no_finished_run(tmp_path: Path, bert: Path):
    """A run that goes on says when the rows that were put aside before are gone, instead of ending without them."""
    write(tmp_path / "in/p.parquet", sentence1=pl.when(pl.col("id") == 3).then(None).otherwise("sentence1"))
    target = score(tmp_path / "in", bert, tmp_path / "out", on_bad_row="quarantine", max_bad_rows=0.5).target
    (target.root / "_SUCCESS").unlink()
    target.side_files[0].unlink()
    with pytest.raises(BadDataError, match="its rows are lost"):
        score(tmp_path / "in", bert, tmp_path / "out", on_bad_row="quarantine", max_bad_rows=0.5)


@pytest.mark.parametrize("place", [b"VALUE", b"stsb_batch.sketch", b"name"])
def test_an_output_that_is_not_utf8(place: bytes, tmp_path: Path, bert: Path):
    """Bytes that are no text in a footer's value, key or column name of what lies at the output: told, or replaced."""
    write(tmp_path / "in.parquet")
    table, path = pa.table({"name": [1]}), tmp_path / "out.parquet"
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"stsb_batch.fingerprint": "VALUE", "stsb_batch.sketch": "{}"})
    path.write_bytes(path.read_bytes().replace(place, b"\xff\xfe" + place[2:]))
    with contextlib.suppress(NothingToReadError):  # what is left says nothing of us
        assert verify_output(path, settings=load_settings()).problems
    with pytest.raises(CannotCreateError, match="was written for another input"):
        score(tmp_path / "in.parquet", bert, path)
    score(tmp_path / "in.parquet", bert, path, overwrite=True)
    assert verify_output(path, settings=load_settings()).problems == []


@pytest.mark.parametrize("where", ["page", "footer"])
def test_a_rerun_does_not_call_damaged_scores_finished(where: str, tmp_path: Path, bert: Path):
    """A bit flipped after the commit is named by a rerun, which writes no manifest for it; removed, it is made good."""
    for output in (tmp_path / "out.parquet", tmp_path / "out"):
        write(tmp_path / "in.parquet")
        target = score(tmp_path / "in.parquet", bert, output).target
        path, manifest = target.single or target.root / "in.parquet", target.manifest.read_bytes()
        content = path.read_bytes()
        place = content.rindex(b'"seconds"') if where == "footer" else 60
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(BadDataError, match="was damaged after it was scored"):
            score(tmp_path / "in.parquet", bert, output)
        assert target.manifest.read_bytes() == manifest
        path.unlink()
        assert score(tmp_path / "in.parquet", bert, output).shards_scored == 1
        assert verify_output(output, settings=load_settings()).problems == []
