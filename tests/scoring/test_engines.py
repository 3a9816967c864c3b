"""Every engine agrees with fp32 torch (law 9), for BERT and DistilBERT, and with transformers itself."""

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stsb_batch.errors import ConfigError, UnavailableError
from stsb_batch.jobs.scorer import open_scorer
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.scoring.engines import EngineChoice, choose_engine
from tests.conftest import make_pairs
from tests.scoring.test_golden import make_checkpoint


def scores(folder: Path, choice: EngineChoice, cache_folder: Path) -> np.ndarray:
    frame = make_pairs(200)
    scorer = open_scorer(open_checkpoint(folder), choice, max_length=128, max_tokens=1024, cache=cache_folder)
    return scorer.score(pa.array(frame["sentence1"]), pa.array(frame["sentence2"])).scores


@cache
def reference(folder: Path) -> np.ndarray:
    """Score pair by pair as plain transformers does, without any of our code."""
    frame = make_pairs(200)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        pairs = zip(frame["sentence1"], frame["sentence2"], strict=True)
        found = np.array([model(**tokenizer(*pair, return_tensors="pt")).logits.item() for pair in pairs], np.float32)
    assert found.std() > 0.3, "scores that hardly vary would prove nothing"
    return found


@pytest.mark.parametrize("model", ["bert", "distilbert"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_fp32_equals_transformers(model, engine, request: pytest.FixtureRequest, tmp_path: Path):
    """Batched scores in fp32 are those of plain transformers, pair by pair."""
    folder = request.getfixturevalue(model)
    assert np.abs(scores(folder, EngineChoice(engine, "cpu", "fp32"), tmp_path) - reference(folder)).max() <= 1e-4


@pytest.mark.parametrize("model", ["bert", "distilbert"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_follows_fp32(model, engine, request: pytest.FixtureRequest, tmp_path: Path):
    """In bf16 the same model runs: random weights magnify rounding, so agreement is asked for as a correlation."""
    folder = request.getfixturevalue(model)
    assert np.corrcoef(scores(folder, EngineChoice(engine, "cpu", "bf16"), tmp_path), reference(folder))[0, 1] > 0.99


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_stays_within_tolerance_of_fp32(engine, tmp_path: Path):
    """With the real encoder's weights no score in bf16 is further than 0.05 from fp32 (law 9)."""
    folder = make_checkpoint(tmp_path / "model")
    assert np.abs(scores(folder, EngineChoice(engine, "cpu", "bf16"), tmp_path) - reference(folder)).max() <= 0.05


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["bert", "distilbert"])
def test_cuda_fp16_agrees_with_transformers(model, request: pytest.FixtureRequest, tmp_path: Path):
    """On CUDA the plain engine in fp16 stays within 0.05 of fp32."""
    folder = request.getfixturevalue(model)
    assert np.abs(scores(folder, EngineChoice("torch", "cuda", "fp16"), tmp_path) - reference(folder)).max() <= 0.05


def test_converted_model_is_kept(bert: Path, tmp_path: Path):
    """The second opening reads the converted model from the cache and gives the same scores."""
    choice = EngineChoice("openvino", "cpu", "fp32")
    first = scores(bert, choice, tmp_path)
    [converted] = (tmp_path / "openvino").glob("*/model.xml")
    written = converted.stat().st_mtime_ns
    open_scorer.cache_clear()
    assert np.array_equal(scores(bert, choice, tmp_path), first)
    assert converted.stat().st_mtime_ns == written


def test_choices_that_cannot_work_are_refused():
    """Unknown names are a configuration error; fp16 without CUDA is unavailable and says what to use."""
    with pytest.raises(ConfigError, match="Engines: auto, torch, openvino"):
        choose_engine("onnx")
    with pytest.raises(UnavailableError, match="--precision bf16 or fp32"):
        choose_engine("openvino", "fp16")
    assert choose_engine("torch", "bf16").precision == "bf16"
