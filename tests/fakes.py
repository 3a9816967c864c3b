"""Stand-ins with the real interface: an engine without a model, and small checkpoints with random weights."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)

from stsb_batch.inference.batches import Batch
from stsb_batch.inference.engines import Engine, EngineChoice
from stsb_batch.models.base import find_base_model
from stsb_batch.models.checkpoint import save_checkpoint
from stsb_batch.refresh.golden import answer


class FakeEngine(Engine):
    """Score = mean token id modulo 5, so that each row's score depends on its own tokens only. Remembers its batches."""

    choice = EngineChoice("fake", "cpu", "fp32")

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def submit(self, batch: Batch) -> Callable[[], np.ndarray]:
        scores = self.score(batch)
        return lambda: scores

    def score(self, batch: Batch) -> np.ndarray:
        self.shapes.append(batch.input_ids.shape)
        return (batch.input_ids.mean(1) % 5).astype(np.float32)


class NanEngine(FakeEngine):
    """An engine whose every score is NaN, as after an overflow in half precision."""

    def score(self, batch: Batch) -> np.ndarray:
        return np.full(len(batch.input_ids), np.nan, np.float32)


class SmallDevice(FakeEngine):
    """An engine that runs out of memory above some tokens; with a depth above 1 only when the scores are asked for."""

    def __init__(self, tokens: int, words: str = "CUDA out of memory. Tried to allocate 2.00 GiB", depth: int = 1) -> None:
        super().__init__()
        self._tokens, self._words, self.depth, self.under_way = tokens, words, depth, 0

    def submit(self, batch):
        if self.depth == 1:
            return super().submit(batch)
        self.under_way += 1
        assert self.under_way <= self.depth

        def collect():
            self.under_way -= 1
            return self.score(batch)

        return collect

    def score(self, batch):
        if batch.input_ids.size > self._tokens:
            self.shapes.append(batch.input_ids.shape)
            raise RuntimeError(self._words)
        return super().score(batch)


def answer_here(question: str) -> CompletedProcess[str]:
    """Score golden pairs in this process: a fresh one takes seconds, and tests about something else need none."""
    return CompletedProcess([], 0, answer(question), "")


def tiny_bert(vocabulary: int, hidden: int = 32, heads: int = 4, spread: float = 0.3) -> PreTrainedModel:
    """Return a BERT of two layers with random weights, seeded."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": heads, "hidden_size": hidden, "intermediate_size": 2 * hidden}
    return BertForSequenceClassification(BertConfig(vocab_size=vocabulary, num_labels=1, initializer_range=spread, **sizes))


def tiny_distilbert(vocabulary: int, hidden: int = 32, heads: int = 4, spread: float = 0.3) -> PreTrainedModel:
    """Return a DistilBERT of two layers with random weights, seeded."""
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "n_heads": heads, "dim": hidden, "hidden_dim": 2 * hidden}
    config = DistilBertConfig(vocab_size=vocabulary, num_labels=1, initializer_range=spread, **sizes)
    return DistilBertForSequenceClassification(config)


def save_tiny(make, folder: Path) -> Path:
    """Save a small model with the MiniLM tokeniser as a standard checkpoint."""
    tokenizer = AutoTokenizer.from_pretrained(find_base_model("minilm"))
    save_checkpoint(make(len(tokenizer)).eval(), tokenizer, folder)
    return folder
