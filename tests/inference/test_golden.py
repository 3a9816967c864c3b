"""Golden scores of the real MiniLM encoder under a fixed head.

Regenerate after a change that is meant to move scores: python -m tests.inference.test_golden
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stsb_batch.inference.engines import EngineChoice
from stsb_batch.inference.scorer import open_scorer
from stsb_batch.models.checkpoint import open_checkpoint
from tests.builders import make_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden/minilm.json"
TOLERANCE = 2e-3
PAIRS = [
    ("The train leaves at nine.", "Departure of the train: 9 a.m."),
    ("Blue cotton shirt, size M", "Shirt, cotton, blue, medium"),
    ("Invoice 4711 was paid twice", "The printer on floor two is out of paper"),
    ("Zürich Hauptbahnhof", "Zurich main station"),
    ("a", "a " * 600),
    ("emoji 🚲 and symbols ½ €", "\u202eright to left\u202c"),
]


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_golden_scores(engine: str, minilm: Path, conversions: Path):
    """Each engine in fp32 gives the recorded scores of the real encoder."""
    checkpoint = open_checkpoint(minilm)
    scorer = open_scorer(checkpoint, EngineChoice(engine, "cpu", "fp32"), max_length=512, max_tokens=2048, cache=conversions)
    left, right = zip(*PAIRS, strict=True)
    found = scorer.score(pa.array(left), pa.array(right)).scores
    assert np.abs(found - np.array(json.loads(GOLDEN.read_text()))).max() <= TOLERANCE


def regenerate(folder: Path) -> None:
    """Record the scores as plain transformers gives them, pair by pair."""
    make_checkpoint(folder)
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    with torch.inference_mode():
        encoded = [tokenizer(*pair, truncation=True, max_length=512, return_tensors="pt") for pair in PAIRS]
        scores = [round(model(**inputs).logits.item(), 5) for inputs in encoded]
    GOLDEN.write_text(json.dumps(scores) + "\n")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        regenerate(Path(name))
