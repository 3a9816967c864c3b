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

from stsb_batch.errors import BadDataError, CannotCreateError, NothingToReadError, UsageError
from stsb_batch.report.table import figure
from stsb_batch.scoring.verify import verify_output
from stsb_batch.settings import load_settings
from tests.builders import score, write_file


def test_modules_in_the_present_folder_are_not_run(tmp_path: Path):
    """The child that opens files imports nothing from the folder that the command was given in."""
    (tmp_path / "resource.py").write_text("open('ran', 'w')")
    write_file(tmp_path / "in.parquet")
    code = (
        "from pathlib import Path; from stsb_batch.pairs.sandbox import Sandbox\n"
        "with Sandbox() as sandbox: sandbox.probe_footer(Path('in.parquet'), 'in.parquet')"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("beside", ["_out.quarantine.pq", "_out.report.pq"])
def test_files_beside_the_output_that_are_not_ours_stay(beside: str, tmp_path: Path, bert: Path):
    """A foreign file where the report or the quarantine goes is refused, as input and as a neighbour."""
    write_file(tmp_path / "in.parquet")
    content = write_file(tmp_path / beside).read_bytes()
    with pytest.raises(CannotCreateError, match="was written for another input"):
        score(tmp_path / "in.parquet", bert, tmp_path / "out.parquet")
    with pytest.raises(UsageError, match="report or quarantine would be written there"):
        score(tmp_path / beside, bert, tmp_path / "out.parquet", overwrite=True)
    assert (tmp_path / beside).read_bytes() == content


def test_quarantine_of_others_stays(tmp_path: Path, bert: Path):
    """A folder run without a bad row removes no file that it has not written."""
    write_file(tmp_path / "in/p.parquet")
    foreign = write_file(tmp_path / "out/_quarantine/p.pq")
    score(tmp_path / "in", bert, tmp_path / "out")
    assert foreign.is_file()


def test_overwrite_removes_our_files_only(tmp_path: Path, bert: Path):
    """`--overwrite` replaces what an earlier plan has written; beside a foreign file nothing is written at all."""
    write_file(tmp_path / "in/p.parquet")
    write_file(tmp_path / "in/q.parquet", seed=3)
    score(tmp_path / "in", bert, tmp_path / "out")
    (tmp_path / "in/q.parquet").unlink()
    score(tmp_path / "in", bert, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/q.parquet").exists()
    foreign = write_file(tmp_path / "out/mine/p.parquet")
    with pytest.raises(CannotCreateError, match="was not written by stsb-batch"):
        score(tmp_path / "in", bert, tmp_path / "out", overwrite=True)
    assert foreign.is_file()


@pytest.mark.parametrize("name", ["_manifest.json", "_report.pq", "_SUCCESS"])
@pytest.mark.parametrize("content", [b"{}", None])
def test_what_is_damaged_beside_the_scores_is_written_anew(name: str, content: bytes | None, tmp_path: Path, bert: Path):
    """A rerun makes manifest, report and `_SUCCESS` good, and scores nothing again."""
    write_file(tmp_path / "in/p.parquet")
    score(tmp_path / "in", bert, tmp_path / "out")
    if content is None:
        (tmp_path / "out" / name).unlink()
    else:
        (tmp_path / "out" / name).write_bytes(content)
    again = score(tmp_path / "in", bert, tmp_path / "out")
    assert (again.shards_scored, figure(again.report, "rows")) == (0, 20)
    assert {"_manifest.json", "_report.pq", "_SUCCESS"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_readers_of_the_scores_see_nothing_else(tmp_path: Path, bert: Path):
    """Report, manifest and quarantined rows are no rows to DuckDB, pyarrow and Polars, in a folder or beside a file."""
    bad = {"sentence1": pl.when(pl.col("id") == 3).then(None).otherwise("sentence1")}
    for name in ("in/k=a/p.parquet", "in/k=b/p.parquet"):
        write_file(tmp_path / name, **bad)
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
    write_file(tmp_path / "in/p.parquet", sentence1=pl.when(pl.col("id") == 3).then(None).otherwise("sentence1"))
    target = score(tmp_path / "in", bert, tmp_path / "out", on_bad_row="quarantine", max_bad_rows=0.5).target
    (target.root / "_SUCCESS").unlink()
    target.side_files[0].unlink()
    with pytest.raises(BadDataError, match="its rows are lost"):
        score(tmp_path / "in", bert, tmp_path / "out", on_bad_row="quarantine", max_bad_rows=0.5)


@pytest.mark.parametrize("place", [b"VALUE", b"stsb_batch.sketch", b"name"])
def test_an_output_that_is_not_utf8(place: bytes, tmp_path: Path, bert: Path):
    """Bytes that are no text in a footer's value, key or column name of what lies at the output: told, or replaced."""
    write_file(tmp_path / "in.parquet")
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
        write_file(tmp_path / "in.parquet")
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
