"""Whether scores depend on neighbours is measured, and what a verdict holds for is recorded."""

import numpy as np

from stsb_batch.inference.dispatch import TokenBudget
from stsb_batch.inference.engines import EngineChoice
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.inference.same_bits import circumstances, gives_same_bits
from tests.builders import tokenizer
from tests.fakes import FakeEngine


class Neighbourly(FakeEngine):
    """An engine whose last bits depend on how many pairs share a batch."""

    def score(self, batch):
        return super().score(batch) + np.float32(len(batch.input_ids) * 1e-6)


def scorer(engine: FakeEngine, tokens: int = 512) -> PairScorer:
    return PairScorer(tokenizer(64), engine, None, TokenBudget(tokens))


def test_an_engine_that_looks_at_one_pair_at_a_time_keeps_the_bits():
    """All at once, one by one and by sevens give the same; one bit that differs is found."""
    assert gives_same_bits(scorer(FakeEngine()))
    assert not gives_same_bits(scorer(Neighbourly()))


def test_a_verdict_is_for_one_model_engine_and_batch_size():
    """Whatever could change the bits is part of what a verdict holds for."""
    choice = EngineChoice("torch", "cpu", "fp32")
    found = circumstances("digest", choice, scorer(FakeEngine()))
    assert found == circumstances("digest", choice, scorer(FakeEngine()))
    assert found != circumstances("other", choice, scorer(FakeEngine()))
    assert found != circumstances("digest", EngineChoice("torch", "cpu", "bf16"), scorer(FakeEngine()))
    assert found != circumstances("digest", choice, scorer(FakeEngine(), tokens=256))
