"""Opening scorers: which engine, and what it is compared with."""

from pathlib import Path

import numpy as np
import pytest

from stsb_batch.errors import UnavailableError
from stsb_batch.inference.engines import EngineChoice
from stsb_batch.inference.scorer import open_plain_scorer, open_scorer, open_small_scorer, reference_choice, score_texts
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.settings import Settings

FP32 = EngineChoice("torch", "cpu", "fp32")


@pytest.mark.parametrize(
    ("engine", "precision", "expected"),
    [("auto", "auto", "torch fp32"), ("openvino", "auto", "openvino fp32"), ("torch", "bf16", "torch bf16")],
)
def test_engine_and_precision_take_effect_on_few_pairs(engine, precision, expected, bert: Path, settings: Settings):
    """`pair` and `evaluate` take fp32 torch unless a setting or an option names something else."""
    chosen = settings.model_copy(update={"engine": engine, "precision": precision})
    assert str(open_small_scorer(open_checkpoint(bert), chosen).engine.choice).startswith(expected)
    assert open_plain_scorer(open_checkpoint(bert), chosen).engine.choice.engine == "torch"


def test_a_precision_that_the_device_lacks_is_refused(bert: Path, settings: Settings):
    """int8 needs OpenVINO."""
    with pytest.raises(UnavailableError, match="int8 needs the engine openvino"):
        open_small_scorer(open_checkpoint(bert), settings.model_copy(update={"precision": "int8"}))


def test_only_another_engine_has_a_reference(bert: Path, tmp_path: Path):
    """fp32 torch is what engines are compared with, and is not compared with itself."""
    checkpoint = open_checkpoint(bert)
    assert reference_choice(FP32) == reference_choice(EngineChoice("openvino", "cpu", "int8")) == FP32
    plain = open_scorer(checkpoint, FP32, max_length=64, max_tokens=256, cache=tmp_path)
    assert (plain.reference, plain.parity) == (None, False)
    bf16 = open_scorer(checkpoint, EngineChoice("torch", "cpu", "bf16"), max_length=64, max_tokens=256, cache=tmp_path)
    assert bf16.reference is not None
    assert bf16.parity


def test_blank_texts_have_no_score(bert: Path, settings: Settings):
    """Lists of texts give float32 scores, NaN where a text is blank."""
    scores = score_texts(open_plain_scorer(open_checkpoint(bert), settings), ["a", " "], ["b", "c"])
    assert scores.dtype == "float32"
    assert np.isnan(scores).tolist() == [False, True]
