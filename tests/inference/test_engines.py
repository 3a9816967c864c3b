"""Every engine agrees with fp32 torch (law 9), for BERT and DistilBERT, and with transformers itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from stsb_batch.errors import ConfigError, UnavailableError
from stsb_batch.inference.dispatch import TokenBudget
from stsb_batch.inference.engines import EngineChoice, choose_engine, open_engine
from stsb_batch.inference.engines.forward import ExactForward, exact_forward
from stsb_batch.inference.engines.openvino_engine import compress_weights, ov
from stsb_batch.models.base import find_base_model
from stsb_batch.models.checkpoint import open_checkpoint, save_checkpoint
from tests.inference.agreement import check_same_bits, reference, scores


@pytest.mark.parametrize("model", ["bert", "distilbert"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_fp32_equals_transformers(model, engine, request: pytest.FixtureRequest, conversions: Path):
    """Batched scores in fp32 are those of plain transformers, pair by pair."""
    folder = request.getfixturevalue(model)
    assert np.abs(scores(folder, EngineChoice(engine, "cpu", "fp32"), conversions) - reference(folder)).max() <= 1e-4


@pytest.mark.parametrize("model", ["bert", "distilbert"])
def test_our_forward_pass_is_that_of_transformers(model, request: pytest.FixtureRequest):
    """In fp32 it gives the same scores to 1e-5, for lengths from 2 to 200; other architectures are not taken."""
    plain = AutoModelForSequenceClassification.from_pretrained(request.getfixturevalue(model)).eval()
    ours, rng = exact_forward(plain, ExactForward), torch.Generator().manual_seed(0)
    for length in (2, 3, 17, 64, 200):
        ids = torch.randint(0, plain.config.vocab_size, (5, length), generator=rng)
        types = (torch.arange(length) >= length // 2).long().expand(5, length)
        inputs = {"input_ids": ids} | ({"token_type_ids": types} if model == "bert" else {})
        with torch.inference_mode():
            expected = plain(**inputs, attention_mask=torch.ones_like(ids)).logits[:, 0]
            assert (ours(**inputs) - expected).abs().max() <= 1e-5
    plain.config.hidden_act = plain.config.activation = "relu"
    assert exact_forward(plain, ExactForward) is None


OTHERS = {
    "roberta": {},
    "modernbert": {"local_attention": 20},
    "deberta-v2": {"relative_attention": True, "position_buckets": 8},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures_take_the_plain_path(kind: str, tmp_path: Path):
    """An architecture that we do not rebuild is run as it is, by either engine, to the same scores."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(find_base_model("minilm"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    ids = {"pad_token_id": 0, "cls_token_id": 101, "sep_token_id": 102, "bos_token_id": 101, "eos_token_id": 102}
    wide = {"initializer_range": 0.3, "pooler_hidden_size": 32, "max_position_embeddings": 514}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), num_labels=1, **sizes, **ids, **wide, **OTHERS[kind])
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert exact_forward(model, ExactForward) is None
    save_checkpoint(model, tokenizer, tmp_path / kind)
    found = [scores(tmp_path / kind, EngineChoice(engine, "cpu", "fp32"), tmp_path) for engine in ("torch", "openvino")]
    assert found[0].std() > 0.1
    assert np.abs(found[0] - found[1]).max() <= 1e-4


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_same_pair_same_score_to_the_bit(precision: str, shallow_minilm: Path, conversions: Path):
    """With OpenVINO a score depends on nothing but the pair: not on neighbours, batch size, order or window (law 3)."""
    budgets = [(TokenBudget(tokens), window) for tokens, window in ((32, 24), (100, 7), (4096, 24), (4096, 1))]
    choice = EngineChoice("openvino", "cpu", precision)
    check_same_bits(open_engine(open_checkpoint(shallow_minilm), choice, cache=conversions), budgets)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fixed_shapes_give_the_same_bits_on_torch(precision: str, shallow_minilm: Path, conversions: Path):
    """With batches filled up, torch too gives a score that does not depend on neighbours, order or window."""
    budgets = [(TokenBudget(160, fixed_shapes=True), window) for window in (24, 7, 1)]
    choice = EngineChoice("torch", "cpu", precision)
    check_same_bits(open_engine(open_checkpoint(shallow_minilm), choice, cache=conversions), budgets)


@pytest.mark.parametrize("model", ["bert", "distilbert"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_follows_fp32(model, engine, request: pytest.FixtureRequest, conversions: Path):
    """In bf16 the same model runs: random weights magnify rounding, so agreement is asked for as a correlation."""
    folder = request.getfixturevalue(model)
    assert np.corrcoef(scores(folder, EngineChoice(engine, "cpu", "bf16"), conversions), reference(folder))[0, 1] > 0.99


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_stays_within_tolerance_of_fp32(engine, minilm: Path, conversions: Path):
    """With the real encoder's weights no score in bf16 is further than 0.05 from fp32 (law 9)."""
    assert np.abs(scores(minilm, EngineChoice(engine, "cpu", "bf16"), conversions) - reference(minilm)).max() <= 0.05


def test_int8_follows_fp32(minilm: Path, conversions: Path):
    """With the real encoder's weights int8 stays close: 0.03 on average, nowhere more than 0.3; and it is not fp32."""
    gaps = np.abs(scores(minilm, EngineChoice("openvino", "cpu", "int8"), conversions) - reference(minilm))
    assert 1e-4 < gaps.mean() <= 0.03
    assert gaps.max() <= 0.3


def test_int8_leaves_the_head_in_fp32(minilm: Path, tmp_path: Path):
    """A product with a single row is not compressed: in some processes OpenVINO's kernel for it gave noise."""
    checkpoint = open_checkpoint(minilm)
    open_engine(checkpoint, EngineChoice("openvino", "cpu", "fp32"), cache=tmp_path)
    converted = ov.Core().read_model(next(tmp_path.rglob("model.xml")))
    compress_weights(converted)
    constants = [node for node in converted.get_ops() if node.get_type_name() == "Constant"]
    rows = [node.shape[0] for node in constants if node.get_element_type() == ov.Type.i8]
    assert rows and min(rows) >= 64


def test_converted_model_is_kept(bert: Path, tmp_path: Path):
    """The second opening reads the converted model from the cache and gives the same scores."""
    choice = EngineChoice("openvino", "cpu", "fp32")
    first = scores(bert, choice, tmp_path)
    [converted] = (tmp_path / "openvino").glob("*/model.xml")
    written = converted.stat().st_mtime_ns
    assert np.array_equal(scores(bert, choice, tmp_path), first)
    assert converted.stat().st_mtime_ns == written


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_damaged_conversion_is_made_again(name: str, bert: Path, tmp_path: Path):
    """What a lost write has left of a converted model is converted once more."""
    choice = EngineChoice("openvino", "cpu", "fp32")
    first = scores(bert, choice, tmp_path)
    [damaged] = (tmp_path / "openvino").glob(f"*/{name}")
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    assert np.array_equal(scores(bert, choice, tmp_path), first)


def test_choices_that_cannot_work_are_refused():
    """Unknown names are a configuration error; fp16 without CUDA is unavailable and says what to use."""
    with pytest.raises(ConfigError, match="Unknown engine 'onnx'"):
        choose_engine("onnx")
    with pytest.raises(UnavailableError, match="--precision bf16 or fp32"):
        choose_engine("openvino", "fp16")
    with pytest.raises(UnavailableError, match="--engine openvino"):
        choose_engine("torch", "int8")
    assert choose_engine("torch", "bf16").precision == "bf16"


def test_openvino_tells_nobody_of_its_use():
    """The module with which OpenVINO reports each conversion to the maker's analytics is out of its reach."""
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
