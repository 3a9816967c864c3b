"""The scoring job from Parquet to Parquet: the laws of rows, commit and resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from stsb_batch.errors import BadDataError, BusyError, CannotCreateError, StorageError, UsageError
from stsb_batch.report.table import figure, parts
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.job import open_job, score_dataset
from stsb_batch.scoring.monitor import RunMonitor
from stsb_batch.scoring.plan import plan_score
from tests.builders import make_pairs, plain_settings, score_request

BLEMISHES = {3: (None, "a"), 5: ("a", ""), 7: ("\u200b", "b"), 11: ("word " * 2_000, "c")}


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A folder with hive partitions, several row groups and a few bad rows."""
    for kind, rows in (("a", 250), ("b", 120)):
        frame = make_pairs(rows, seed=rows)
        for row, (left, right) in BLEMISHES.items():
            frame[row, "sentence1"], frame[row, "sentence2"] = left, right
        path = tmp_path / f"night/kind={kind}/part.parquet"
        path.parent.mkdir(parents=True)
        frame.with_columns(when=pl.lit("2026-01-01").str.to_date(), nested=pl.struct("id", "label")).write_parquet(
            path, row_group_size=50
        )
    return tmp_path / "night"


def test_rows_out_are_rows_in(warehouse: Path, bert: Path):
    """Each file has its own output with the same rows in the same order and all other columns equal (laws 1 and 4)."""
    outcome = score_dataset(score_request(warehouse, bert))
    assert outcome.target.root == warehouse.with_name("night.scored")
    for kind in "ab":
        before = pq.read_table(warehouse / f"kind={kind}/part.parquet", partitioning=None)
        after = pq.read_table(outcome.target.root / f"kind={kind}/part.parquet", partitioning=None)
        assert after.drop_columns(["score", "score_status"]).cast(before.schema).equals(before)
        status = after["score_status"].to_pylist()
        assert [status[row] for row in BLEMISHES] == ["NULL_INPUT", "EMPTY_INPUT", "EMPTY_INPUT", "OK_TRUNCATED"]
        assert [s.startswith("OK") for s in status] == [v is not None for v in after["score"].to_pylist()]
    assert outcome.rows == 370
    assert outcome.bad_rows == 6


def test_folder_output_is_complete_and_read_by_others(warehouse: Path, bert: Path):
    """Manifest, report and _SUCCESS are there, nothing else; DuckDB and pyarrow read the folder as one table."""
    root = score_dataset(score_request(warehouse, bert)).target.root
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert names == ["_SUCCESS", "_manifest.json", "_report.pq", "kind=a/part.parquet", "kind=b/part.parquet"]
    manifest = json.loads((root / "_manifest.json").read_text())
    assert manifest["rows"] == 370
    assert [file["path"] for file in manifest["files"]] == names[-2:]
    counted = duckdb.sql(f"select count(*), count(score) from read_parquet('{root}/*/*.parquet', hive_partitioning=true)")  # noqa: S608
    assert counted.fetchall() == [(370, 364)]
    assert pa.dataset.dataset(root, partitioning="hive").count_rows() == 370


def test_single_file_leaves_three_files(pairs_file: Path, bert: Path):
    """in.parquet gives in.scored.parquet, its report and its manifest, and nothing more."""
    outcome = score_dataset(score_request(pairs_file, bert, settings=plain_settings(shard_rows=100)))
    names = sorted(path.name for path in pairs_file.parent.iterdir() if path.is_file())
    assert names == ["_in.scored.manifest.json", "_in.scored.report.pq", "in.parquet", "in.scored.parquet"]
    assert [path.name for path in pairs_file.parent.iterdir() if path.is_dir()] == ["home"]
    footer = pq.read_metadata(outcome.target.single).metadata
    assert footer[b"stsb_batch.model_digest"].decode() == outcome.report["model_digest"][0]
    assert {b"stsb_batch.fingerprint", b"stsb_batch.run_id", b"stsb_batch.model"} <= set(footer)


def test_scores_are_those_of_each_pair_alone(pairs_file: Path, bert: Path):
    """A score does not depend on batch, window or shard (law 3, within rounding of fp32)."""
    scores = []
    for name, settings in (
        ("a", plain_settings()),
        ("b", plain_settings(max_tokens=64)),
        ("c", plain_settings(shard_rows=100, max_tokens=4096)),
    ):
        outcome = score_dataset(score_request(pairs_file, bert, pairs_file.parent / name, settings=settings))
        files = sorted(outcome.target.root.glob("*.parquet"))
        scores.append(np.concatenate([pl.read_parquet(f)["score"].to_numpy() for f in files if f.name[0] != "_"]))
    assert len(scores[0]) == 500
    assert np.abs(scores[0] - scores[1]).max() < 1e-4
    assert np.abs(scores[0] - scores[2]).max() < 1e-4


def test_large_file_becomes_several_shards(pairs_file: Path, bert: Path, tmp_path: Path):
    """In a folder a file above shard_rows is cut at row groups, and its parts are numbered in order."""
    outcome = score_dataset(score_request(pairs_file, bert, tmp_path / "out", settings=plain_settings(shard_rows=200)))
    names = sorted(path.name for path in outcome.target.root.glob("in*.parquet"))
    assert names == [f"in-0000{n}-of-00003.parquet" for n in (1, 2, 3)]
    ids = pl.concat([pl.read_parquet(outcome.target.root / name) for name in names])["id"]
    assert ids.to_list() == list(range(500))


def test_second_run_touches_nothing(warehouse: Path, bert: Path):
    """Scoring what is done already changes no file."""
    first = score_dataset(score_request(warehouse, bert))
    before = {path: path.stat().st_mtime_ns for path in first.target.root.rglob("*")}
    second = score_dataset(score_request(warehouse, bert))
    assert {path: path.stat().st_mtime_ns for path in first.target.root.rglob("*")} == before
    assert (second.shards_scored, second.rows) == (0, 370)
    assert second.report.equals(first.report)


def test_new_input_is_added_to_what_is_done(warehouse: Path, bert: Path):
    """A file that came later is scored into the same output; the others are kept."""
    score_dataset(score_request(warehouse, bert))
    make_pairs(30).write_parquet(warehouse / "late.parquet")
    outcome = score_dataset(score_request(warehouse, bert))
    assert (outcome.shards_scored, outcome.rows) == (1, 400)


@pytest.mark.parametrize("change", ["model", "input", "option", "vanished"])
def test_output_of_another_plan_is_refused_and_overwritten_on_request(warehouse, bert, distilbert, change: str):
    """Another model, a changed input, another option or a vanished file never mix into old output."""
    root = score_dataset(score_request(warehouse, bert)).target.root
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    part, options, model = warehouse / "kind=a/part.parquet", {}, bert
    if change == "model":
        model = distilbert
    elif change == "input":
        make_pairs(40).write_parquet(part)
    elif change == "vanished":
        part.unlink()
    else:
        options = {"settings": plain_settings(max_length=16)}
    with pytest.raises(CannotCreateError, match="--overwrite"):
        score_dataset(score_request(warehouse, model, **options))
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before
    outcome = score_dataset(score_request(warehouse, model, overwrite=True, **options))
    names = {str(path.relative_to(root)) for path in root.rglob("*.parquet") if path.name[0] != "_"}
    assert names == {str(path.relative_to(warehouse)) for path in warehouse.rglob("*.parquet")}
    assert outcome.rows == sum(pq.read_metadata(root / name).num_rows for name in names)
    assert figure(outcome.report, "rows") == outcome.rows


def test_input_changed_while_it_is_scored_is_not_committed(pairs_file: Path, bert: Path, tmp_path: Path):
    """A file rewritten between plan and commit is INPUT_CHANGED, and no output of it appears."""
    done = []

    def change(monitor: RunMonitor) -> None:
        if not done:
            done.append(make_pairs(500, seed=9).write_parquet(pairs_file, row_group_size=100))

    with pytest.raises(BadDataError, match="INPUT_CHANGED"):
        score_dataset(score_request(pairs_file, bert, tmp_path / "out"), on_progress=change)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_one_writer_per_output(warehouse: Path, bert: Path):
    """While one job holds an output a second one is sent away, naming the holder; other outputs are free."""
    plan = plan_score(score_request(warehouse, bert))
    with open_job(plan), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        score_dataset(score_request(warehouse, bert))
    assert score_dataset(score_request(warehouse, bert)).rows == 370


@pytest.mark.parametrize("output", ["night", "night/out", "."])
def test_output_on_inside_or_around_the_input_is_refused(warehouse: Path, bert: Path, output: str):
    """The output folder never is, lies in, or holds the input."""
    with pytest.raises(UsageError, match="-o"):
        score_dataset(score_request(warehouse, bert, warehouse.parent / output))
    with pytest.raises(UsageError):
        score_dataset(score_request(warehouse / "kind=a/part.parquet", bert, warehouse / "kind=a/part.parquet"))


def test_zero_rows_give_an_empty_output(tmp_path: Path, bert: Path):
    """A file without rows has an output with the full schema and a report without metrics."""
    make_pairs(3).clear().write_parquet(tmp_path / "e.parquet")
    outcome = score_dataset(score_request(tmp_path / "e.parquet", bert))
    table = pl.read_parquet(outcome.target.single)
    assert table.height == 0
    assert table.columns[-2:] == ["score", "score_status"]


def test_columns_are_chosen_and_renamed(pairs_file: Path, bert: Path):
    """--left, --right, --keep, --label and --score-column decide what is read and written; a label need not be kept."""
    frame = pl.read_parquet(pairs_file).rename({"sentence1": "a", "sentence2": "b", "label": "gold"}).with_columns(score=1.0)
    frame.write_parquet(pairs_file)
    names = {"left": "a", "right": "b", "label": "gold", "keep": ("id",), "score_column": "sim"}
    outcome = score_dataset(score_request(pairs_file, bert, **names))
    assert pl.read_parquet(outcome.target.single).columns == ["id", "sim", "sim_status"]
    assert {"mse", "rmse", "mae", "pearson", "spearman"} <= set(outcome.report["metric"])


def test_labels_that_cannot_be_used_are_left_out_and_counted(pairs_file: Path, bert: Path):
    """Null labels and labels off the scale do not enter the metrics, and the report says how many."""
    frame = pl.read_parquet(pairs_file)
    bad = pl.when(pl.col("id") < 3).then(None).when(pl.col("id") < 10).then(-1.0).otherwise("label").alias("label")
    frame.with_columns(bad).write_parquet(pairs_file)
    report = score_dataset(score_request(pairs_file, bert)).report
    assert report.filter(pl.col("metric") == "labels_left_out")["value"].item() == 10
    assert report.filter(pl.col("metric") == "mse")["rows"].item() == 490


def test_labels_of_another_kind_are_told(pairs_file: Path, bert: Path, caplog):
    """A column `label` that holds no numbers gives no metrics, and a warning says why."""
    pl.read_parquet(pairs_file).with_columns(pl.col("label").cast(pl.String)).write_parquet(pairs_file)
    assert "mse" not in set(score_dataset(score_request(pairs_file, bert)).report["metric"])
    assert "in.parquet: column 'label' is large_string, not a number: no metrics" in caplog.text


def test_reports_append_to_a_history(pairs_file: Path, bert: Path, settings):
    """Each run's report is one more file of a history that reads as one table."""
    for name in ("a", "b"):
        score_dataset(score_request(pairs_file, bert, pairs_file.parent / name))
    history = duckdb.sql(f"select count(distinct run_id) from '{settings.home}/reports/*.parquet'")  # noqa: S608
    assert history.fetchall() == [(2,)]


def test_history_that_cannot_be_kept_is_told_before_scoring(pairs_file: Path, bert: Path, settings):
    """Where reports cannot be kept nothing is scored first."""
    settings.home.mkdir()
    (settings.home / "reports").write_text("a file where the folder of reports belongs")
    before = sorted(pairs_file.parent.rglob("*"))
    with pytest.raises(StorageError, match=r"reports: File exists while keeping reports \(STSB_BATCH_HOME\)"):
        score_dataset(score_request(pairs_file, bert))
    assert sorted(pairs_file.parent.rglob("*")) == before


def test_report_tells_padding_and_time_to_the_first_score(pairs_file: Path, bert: Path):
    """Batches of one length have no padding; filled-up ones have; the first score came before the run's end."""
    plainly = score_dataset(score_request(pairs_file, bert, pairs_file.with_name("a.parquet"))).report
    assert figure(plainly, "padding_share") == 0
    assert figure(plainly, "tokeniser_fallback_rows") == 0
    assert figure(plainly, "first_score_seconds") > 0
    filled = score_request(pairs_file, bert, pairs_file.with_name("b.parquet"), settings=plain_settings(fixed_shapes=True))
    assert 0 < figure(score_dataset(filled).report, "padding_share") < 1


def test_parity_is_compared_switched_off_or_not_applicable(pairs_file: Path, bert: Path):
    """fp32 torch is what engines are compared with: there is no gap to report, and the report says why."""
    settings = plain_settings(engine="openvino")
    for engine, options, state in (
        ("torch", {}, "not applicable"),
        ("openvino", {"settings": settings}, "compared"),
        ("openvino-off", {"settings": settings, "parity": False}, "off"),
    ):
        report = score_dataset(score_request(pairs_file, bert, pairs_file.with_name(f"{engine}.parquet"), **options)).report
        assert [name for name, _ in parts(report, "parity")] == [state]
        assert (figure(report, "parity_max_gap") is not None) == (state == "compared")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path, bert: Path):
    """The peak memory of 400,000 rows is at most 1.10 times that of 100,000."""
    peaks = []
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom tests.builders import score_request\n"
        "from stsb_batch.scoring.job import score_dataset\nscore_dataset(score_request(*map(Path, sys.argv[1:])))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    part = make_pairs(100_000)
    for copies in (1, 4):
        source = tmp_path / f"in{copies}.parquet"
        pl.concat([part] * copies).write_parquet(source, row_group_size=100_000)
        arguments = [sys.executable, "-W", "ignore", "-c", code, source, bert, tmp_path / f"out{copies}"]
        peaks.append(int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] <= 1.10 * peaks[0]


def test_bad_path_is_told_before_the_model_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Errors of path and schema come first, also without a model in the registry."""
    make_pairs(3).drop("sentence2").write_parquet(tmp_path / "in.parquet")
    with pytest.raises(BadDataError, match="sentence2"):
        score_dataset(ScoreRequest(str(tmp_path / "in.parquet")))


def test_text_that_the_model_cannot_read_is_named(tmp_path: Path, bert: Path, caplog: pytest.LogCaptureFixture):
    """Kind: text that the model cannot read. The rows are OK, the report has the share of unknown tokens, a line warns."""
    texts = pl.DataFrame({"sentence1": ["รถไฟออกเวลาเก้าโมง", "red pump"], "sentence2": ["火车九点出发", "blue pump"]})
    texts.write_parquet(tmp_path / "thai.parquet")
    outcome = score_dataset(score_request(tmp_path / "thai.parquet", bert))
    assert figure(outcome.report, "rows_by_status", "OK") == 2
    assert figure(outcome.report, "unknown_token_rate") > 0.1
    assert "tokens are unknown to the model's tokeniser (limit 2 %)" in caplog.text
    caplog.clear()
    make_pairs(20).write_parquet(tmp_path / "english.parquet")
    assert figure(score_dataset(score_request(tmp_path / "english.parquet", bert)).report, "unknown_token_rate") == 0
    assert "unknown" not in caplog.text
