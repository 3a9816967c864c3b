"""Outputs of version 0.1.0, with its names and without our digests: read, found done, and given today's names."""

import hashlib
import json
import shutil
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from stsb_batch.cli.views import read_report
from stsb_batch.pairs.layout import Target, earlier
from stsb_batch.report.table import content_sha256, figure
from stsb_batch.schedule.run_dates import is_complete
from stsb_batch.scoring.finish import ScoreOutcome
from stsb_batch.scoring.history import reports_folder
from stsb_batch.scoring.verify import verify_output
from stsb_batch.settings import load_settings
from tests.builders import make_pairs, score


def write_input(path: Path) -> Path:
    pairs = make_pairs(20).with_columns(sentence1=pl.when(pl.col("id") == 3).then(None).otherwise("sentence1"))
    pairs.write_parquet(path, mkdir=True)
    return path


def rescored(source: Path, bert: Path, output: Path) -> ScoreOutcome:
    return score(source, bert, output, on_bad_row="quarantine", max_bad_rows=0.5)


def age(target: Target) -> None:
    """Turn an output into what version 0.1.0 left."""
    old = earlier(target)
    for path in target.side_files:
        before = old.side if target.single else old.side / path.relative_to(target.side).with_suffix(".parquet")
        before.parent.mkdir(exist_ok=True)
        path.rename(before)
    shutil.rmtree(target.side, ignore_errors=True)
    table = pq.ParquetFile(target.report).read()
    footer = {"stsb_batch.content": content_sha256(pl.from_arrow(table)), "stsb_batch.label": ""}
    if target.single:
        footer["stsb_batch.scored_sha256"] = hashlib.sha256(target.single.read_bytes()).hexdigest()
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | footer), old.report, write_page_checksum=True)
    target.report.unlink()
    manifest = json.loads(target.manifest.read_text())
    target.manifest.unlink()
    if not target.single:
        manifest["report_sha256"] = hashlib.sha256(old.report.read_bytes()).hexdigest()
        files = [{key: value for key, value in file.items() if key != "quarantine_sha256"} for file in manifest["files"]]
        content = json.dumps({k: v for k, v in manifest.items() if k not in ("format", "sha256")} | {"files": files})
        target.manifest.write_text(content)
        (target.root / "_SUCCESS").write_text(hashlib.sha256(content.encode()).hexdigest())


@pytest.fixture(params=["folder", "file"])
def aged(request: pytest.FixtureRequest, tmp_path: Path, bert: Path) -> tuple[Path, Target]:
    source = write_input(tmp_path / "in/p.parquet")
    source, output = (source, "2026-01-01.parquet") if request.param == "file" else (source.parent, "2026-01-01")
    target = rescored(source, bert, tmp_path / output).target
    age(target)
    return source, target


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "home" not in path.parts}


def test_it_is_read_and_found_done(aged: tuple[Path, Target], tmp_path: Path, bert: Path):
    """verify says what it cannot check, report shows it, a night of it is whole, and a rerun touches nothing."""
    source, target = aged
    found = verify_output(target.name, settings=load_settings())
    assert found.problems == []
    assert "written by version 0.1.0" in found.notes[0]
    assert figure(read_report(target.name), "rows_quarantined") == 1
    assert target.single or is_complete(str(source), str(tmp_path), "2026-01-01")
    before = names(tmp_path)
    again = rescored(source, bert, target.name)
    assert (again.shards_scored, figure(again.report, "rows")) == (0, 20)
    assert names(tmp_path) == before


def test_a_run_that_goes_on_gives_it_today_s_names(aged: tuple[Path, Target], bert: Path):
    """Where the end of an earlier version's run is missing, a rerun ends it, and keeps the rows that were put aside."""
    source, target = aged
    (earlier(target).report if target.single else target.root / "_SUCCESS").unlink()
    assert rescored(source, bert, target.name).shards_scored == 0
    found = verify_output(target.name, settings=load_settings())
    assert (found.problems, found.notes) == ([], [])
    assert [len(pl.read_parquet(path)) for path in target.side_files] == [1]
    assert not earlier(target).report.exists()
    assert not earlier(target).side.exists()


def test_damage_of_an_earlier_report_is_found(tmp_path: Path, bert: Path):
    """What an earlier version's digests cover is checked still: the figures of a single file's report, and its scores."""
    source = write_input(tmp_path / "p.parquet")
    target = rescored(source, bert, tmp_path / "out.parquet").target
    age(target)
    for path, words in ((earlier(target).report, "its figures"), (target.single, "its SHA-256")):
        content = path.read_bytes()
        path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
        [problem] = verify_output(target.single, settings=load_settings()).problems
        assert words in problem
        path.write_bytes(content)


def test_earlier_reports_are_compared_with(tmp_path: Path, bert: Path):
    """The history of an earlier version is what the next night is compared with."""
    for night in ("2026-01-01", "2026-01-02"):
        write_input(tmp_path / f"in/night={night}/p.parquet")
    first = rescored(tmp_path / "in/night=2026-01-01", bert, tmp_path / "a")
    (path,) = reports_folder(load_settings().home).iterdir()
    age(first.target)
    path.unlink()
    shutil.copy(earlier(first.target).report, path.with_name("20260101T000000000000-0a1b2c3d.parquet"))
    second = rescored(tmp_path / "in/night=2026-01-02", bert, tmp_path / "b")
    assert figure(second.report, "drift_alerts") == 0
