"""The benchmark measures the same work of each contender."""

import datetime as dt
import os
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.bench import _read, encoder_weights, make_distinct_pairs, matmul_ceiling, run_bench
from stsb_batch.errors import BadDataError
from stsb_batch.inference.engines import EngineChoice
from stsb_batch.models.checkpoint import open_checkpoint
from tests.builders import make_pairs


def test_made_up_sentences_are_all_distinct():
    """No sentence occurs twice, so that no cache of texts or pairs is flattered."""
    frame = make_distinct_pairs(500)
    assert len(set(frame["sentence1"]) | set(frame["sentence2"])) == 1_000


def test_contenders_score_the_same_pairs(bert: Path, tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch):
    """Each contender that is installed gives the scores that ours gives in fp32, and is timed in each round."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "unset")  # so that it is as before when the test is over
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    make_pairs(80).write_parquet(tmp_path / "in.parquet")
    said: list[str] = []
    options = {"settings": settings.model_copy(update={"precision": "fp32"}), "rows": 70, "rounds": 2, "echo": said.append}
    found = run_bench(model=str(bert), input_=tmp_path / "in.parquet", **options)
    names = [row["name"] for row in found["results"]]
    assert names == [
        "stsb-batch",
        "stsb-batch int8",
        "CrossEncoder default",
        "CrossEncoder best",
        "transformers pipeline",
        "ONNX Runtime float32 best",
        "ONNX Runtime int8 best",
    ]
    assert found["pairs"] == 70
    assert found["tokens"] > 70 * 5
    assert all(row["seconds"] > 0 for row in found["results"])
    assert found["tokeniser"]["differences"] == 0
    assert found["tokeniser"]["sentences"] == 160
    assert all(found["tokeniser"][way] > 0 for way in ("cold", "warm", "tokenizers"))
    gaps = {row["name"]: row["gap"] for row in found["results"]}
    assert gaps["CrossEncoder default"] < 1e-3
    assert gaps["transformers pipeline"] < 1e-3
    assert gaps["ONNX Runtime float32 best"] < 1e-3
    assert len([line for line in said if line.startswith("round")]) == 14
    assert not (settings.home / "reports").exists()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true", "one contender turned the tokeniser's threads off for the others"


def test_input_without_the_columns_is_refused(bert: Path, tmp_path: Path, settings):
    """A file with other columns is bad data, told by its name."""
    pl.DataFrame({"a": ["x"]}).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(BadDataError, match=r"in\.parquet: needs columns sentence1 and sentence2"):
        run_bench(model=str(bert), settings=settings, input_=tmp_path / "in.parquet", rows=64, rounds=1, echo=print)


def test_ceiling_and_weights(bert: Path):
    """The encoder's weights are counted from its configuration; the ceiling is a speed."""
    assert encoder_weights(open_checkpoint(bert)) == 2 * (4 * 32 * 32 + 2 * 32 * 64)
    for precision in ("fp32", "bf16", "int8"):
        assert matmul_ceiling(open_checkpoint(bert), EngineChoice("openvino", "cpu", precision), seconds=0.05) > 1e7


def test_bench_reads_a_file_that_is_not_ours_as_scoring_does(tmp_path: Path):
    """Kind: a column that nobody reads. Its type is ignored; null texts are left out of the first rows."""
    moment = pa.array([dt.datetime(2024, 1, 1)] * 100, pa.timestamp("us", "+05:30"))
    frame = make_pairs(100).with_columns(sentence1=pl.when(pl.col("id") > 0).then("sentence1"))
    pq.write_table(frame.to_arrow().append_column("beside", moment), tmp_path / "in.parquet")
    assert _read(tmp_path / "in.parquet", 70)["sentence1"].to_list() == frame["sentence1"][1:70].to_list()
