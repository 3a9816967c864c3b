"""What engines are compared with: plain transformers, pair by pair; and the scores of an engine on the same pairs."""

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stsb_batch.inference.dispatch import TokenBudget
from stsb_batch.inference.engines import Engine, EngineChoice
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.inference.same_bits import gives_same_bits
from stsb_batch.inference.scorer import open_scorer
from stsb_batch.models.checkpoint import open_checkpoint
from stsb_batch.scoring.verify import TOLERANCE
from tests.builders import make_pairs, tokenizer


def scores(folder: Path, choice: EngineChoice, cache_folder: Path) -> np.ndarray:
    frame = make_pairs(200)
    checkpoint, parity = open_checkpoint(folder), choice.precision == "fp32"  # the tests measure the gap themselves
    scorer = open_scorer(checkpoint, choice, max_length=128, max_tokens=1024, cache=cache_folder, parity=parity)
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


def check_same_bits(engine: Engine, budgets: list[tuple[TokenBudget, int]]) -> None:
    """Score 24 pairs in several orders, windows and budgets; each pair must have one score only.

    Where half precision or int8 is found not to keep the bits on this processor, scores may differ by its tolerance.
    """
    frame, rng = make_pairs(24), np.random.default_rng(0)
    found, claimed = {}, gives_same_bits(PairScorer(tokenizer(128), engine, lambda: engine, budgets[0][0]))
    for budget, window in budgets:
        scorer = PairScorer(tokenizer(128), engine, lambda: engine, budget)
        order = rng.permutation(frame.height)
        for start in range(0, frame.height, window):
            part = frame[order[start : start + window].tolist()]
            result = scorer.score(pa.array(part["sentence1"]), pa.array(part["sentence2"])).scores
            for row, value in zip(part["id"], result, strict=True):
                found.setdefault(row, set()).add(value)
    assert len(found) == 24
    gaps = [max(values) - min(values) for values in found.values()]
    assert max(gaps) <= (0 if claimed else TOLERANCE[engine.choice.precision])
    assert claimed or engine.choice.precision != "fp32"
