"""What a refresh refuses before it trains, and what a full disk leaves."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from stsb_batch.errors import BadDataError, GateRefused, ModelIntegrityError, NothingToReadError
from stsb_batch.refresh.job import plan_refresh
from stsb_batch.requests import RefreshRequest
from tests.builders import make_pairs


@pytest.fixture
def request_(bert: Path, tmp_path: Path) -> RefreshRequest:
    make_pairs(200).write_parquet(tmp_path / "labels.parquet")
    return RefreshRequest(labels=str(tmp_path / "labels.parquet"), base_model=str(bert))


@pytest.mark.parametrize("rows", [20, 199])
def test_too_few_labels_for_the_gate(request_: RefreshRequest, rows: int):
    """Too few test pairs are refused, with the number needed."""
    make_pairs(rows).write_parquet(request_.labels)
    with pytest.raises(
        BadDataError, match="test pairs are too few for the gate, at least 20 are needed: 200 labelled pairs"
    ):
        plan_refresh(request_)


def test_equal_labels(request_: RefreshRequest):
    """Labels that are all equal are refused."""
    make_pairs(200).with_columns(label=pl.lit(3.0)).write_parquet(request_.labels)
    with pytest.raises(BadDataError, match="so that nothing can be learned"):
        plan_refresh(request_)


def test_leaked_test_set(request_: RefreshRequest):
    """A test split that is also in train, sides swapped, is refused by the gate's own rule."""
    train, held = make_pairs(100), make_pairs(60, seed=3)
    test = train[:30].rename({"sentence1": "sentence2", "sentence2": "sentence1"}).select(train.columns)
    parts = [("train", train), ("val", held), ("test", test)]
    pl.concat([frame.with_columns(split=pl.lit(name)) for name, frame in parts]).write_parquet(request_.labels)
    with pytest.raises(GateRefused, match="30 of 30 test pairs are also in train or val"):
        plan_refresh(request_)


def test_base_without_fast_tokeniser(request_: RefreshRequest, tmp_path: Path, bert: Path):
    """An encoder whose tokeniser exists in Python only is refused with the remedy."""
    base = tmp_path / "canine"
    base.mkdir()
    shutil.copy(bert / "model.safetensors", base)
    (base / "config.json").write_text('{"model_type": "canine"}')
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    with pytest.raises(ModelIntegrityError, match=r"canine: has no fast tokeniser\. Convert it"):
        plan_refresh(replace(request_, base_model=str(base)))


def test_unknown_base_models(request_: RefreshRequest, tmp_path: Path, bert: Path):
    """A base model that is not there, and one without safetensors weights, are told apart."""
    with pytest.raises(NothingToReadError, match="no such folder"):
        plan_refresh(replace(request_, base_model="./nowhere"))
    shutil.copytree(bert, tmp_path / "base")
    (tmp_path / "base/model.safetensors").unlink()
    with pytest.raises(ModelIntegrityError, match=r"model\.safetensors is missing"):
        plan_refresh(replace(request_, base_model=str(tmp_path / "base")))


def test_churn_sample_that_is_not_there(request_: RefreshRequest):
    """A wrong path of the sample is found before training, not after it."""
    with pytest.raises(NothingToReadError, match="no such file or folder"):
        plan_refresh(replace(request_, churn_sample="nowhere.parquet"))
