"""The starter set and the demo made from it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stsb_batch.demo.warehouse import LONG_TEXT_WORDS, create_warehouse, starter_set
from stsb_batch.inference.scorer import open_plain_scorer
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.models.registry import find_version
from stsb_batch.pairs.listing import find_files
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import Columns
from stsb_batch.pairs.source import inspect_files
from stsb_batch.refresh.labels import load_labels
from tests.builders import STSB


def test_starter_set_is_large_varied_and_on_the_scale():
    """At least 500 pairs of six kinds, labels spread over 0 to 5, no pair twice, no blank text."""
    starter = starter_set()
    assert starter.height >= 500
    assert set(starter["kind"]) == {"caption", "headline", "name", "product", "question", "ticket"}
    bands = starter.group_by(pl.col("label").round().alias("band")).len()
    assert set(bands["band"]) == {0, 1, 2, 3, 4, 5}
    assert bands["len"].min() >= 0.1 * starter.height
    assert not starter.select("sentence1", "sentence2").is_duplicated().any()
    assert starter["sentence1"].str.strip_chars().str.len_chars().min() > 0
    assert starter["sentence2"].str.strip_chars().str.len_chars().min() > 0


def test_warehouse_is_the_same_in_every_process(tmp_path: Path):
    """The pairs hang on nothing that differs from process to process, as the order of a set does."""
    made = []
    for seed in ("1", "2"):
        program = f"import pathlib, stsb_batch.demo.warehouse as demo; demo.create_warehouse(pathlib.Path({seed!r}))"
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env=environment)
        files = sorted((tmp_path / seed).rglob("*.parquet"))
        made.append({path.relative_to(tmp_path / seed): path.read_bytes() for path in files})
    assert len(made[0]) == 7
    assert made[0] == made[1]


def test_held_out_texts_are_in_no_other_split():
    """No text of a split occurs in another split, on either side."""
    texts = starter_set().unpivot(["sentence1", "sentence2"], index="split").unique(["split", "value"])
    assert not texts["value"].is_duplicated().any()
    assert starter_set().filter(pl.col("split") == "test").height >= 100


def test_warehouse_is_laid_out_once_with_blemishes(tmp_path: Path):
    """Labels can be trained on, pairs planned; nulls, blanks and a very long text are there; nothing is rewritten."""
    warehouse = create_warehouse(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert create_warehouse(tmp_path) == warehouse
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    assert load_labels(str(warehouse.labels), Columns()).leaked == 0
    with Sandbox() as sandbox:
        sources, bad = inspect_files(find_files(str(warehouse.pairs)), Columns(), sandbox)
    assert (len(sources), bad) == (6, [])
    pairs = pl.concat([pl.read_parquet(source.path, hive_partitioning=False) for source in sources])
    assert pairs.height == sum(source.rows for source in sources) == 4_800
    assert pairs["sentence1"].null_count() == pairs["sentence2"].null_count() == 6
    assert (pairs["sentence2"].str.strip_chars() == "").sum() == 6
    assert pairs["sentence1"].str.split(" ").list.len().max() == LONG_TEXT_WORDS
    assert "label" not in pairs.columns


@pytest.mark.slow
def test_demo_runs_and_runs_again(tmp_path: Path, settings):
    """The demo ends with scores, metrics and three commands that work; a second run does nothing again."""
    command = [sys.executable, "-m", "stsb_batch", "demo"]
    first = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert (tmp_path / "stsb-demo/pairs.scored/_SUCCESS").exists()
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "Nothing was trained" in again.stdout
    assert "Nothing to do" in again.stdout
    commands = re.findall(r"STSB_BATCH_HOME=\S+ stsb-batch (.*)", first.stdout)
    assert len(commands) == 3
    for line in commands:
        shell = f"STSB_BATCH_HOME=stsb-demo/home {sys.executable} -m stsb_batch {line}"
        subprocess.run(shell, shell=True, cwd=tmp_path, check=True, capture_output=True)  # noqa: S602
    if STSB.is_dir():  # texts of other people and fields, where they are at hand
        pairs = pl.read_parquet(STSB / "validation.parquet")
        texts = [pairs[name].to_arrow() for name in ("sentence1", "sentence2")]
        champion = open_checkpoint(find_version(tmp_path / "stsb-demo/home", "champion").path)
        assert np.corrcoef(open_plain_scorer(champion, settings).score(*texts).scores, pairs["label"])[0, 1] >= 0.80
