"""What runs on CUDA: the packed forward pass, its Triton kernels and the CUDA graphs around it; as far as can be without."""

import platform
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
)

from stsb_batch.inference.batches import gather_batch, pack_batch, plan_batches, plan_packed
from stsb_batch.inference.dispatch import Dispatcher, TokenBudget
from stsb_batch.inference.engines import OPENERS, EngineChoice, open_engine, plain
from stsb_batch.inference.engines.forward import PackedForward, exact_forward
from stsb_batch.inference.engines.graphs import GraphedForward
from stsb_batch.inference.engines.packed_engine import PackedEngine
from stsb_batch.inference.engines.torch_engine import TorchEngine
from stsb_batch.inference.tokens import TokenizedPairs
from stsb_batch.models.checkpoint import load_model, open_checkpoint
from stsb_batch.refresh.labels import Labels
from stsb_batch.refresh.recipes import Recipe, Stage
from stsb_batch.refresh.train import train
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.job import score_dataset
from stsb_batch.settings import Settings
from tests.builders import make_pairs, tokenizer
from tests.fakes import save_tiny, tiny_bert, tiny_distilbert
from tests.inference.agreement import check_same_bits, reference, scores

FP16 = EngineChoice("torch", "cuda", "fp16")


@pytest.fixture(scope="module", params=[tiny_bert, tiny_distilbert])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose heads have a size that the kernels take, which those of the tiny ones have not."""
    make = partial(request.param, hidden=96, heads=3, spread=0.12)
    return save_tiny(make, tmp_path_factory.mktemp("models") / request.param.__name__)


def tokens_of(rows: int, longest: int, vocabulary: int) -> TokenizedPairs:
    """Make pairs of 2 to `longest` random tokens."""
    rng = np.random.default_rng(0)
    lengths = np.concatenate([[2, longest], rng.integers(2, longest, rows - 2)])
    ids = rng.integers(0, vocabulary, lengths.sum()).astype(np.int32)
    return TokenizedPairs(
        ids,
        (ids % 2).astype(np.int8),
        np.concatenate([[0], np.cumsum(lengths)]),
        *([np.zeros(rows, bool)] * 2),
        np.zeros(rows, int),
        0,
    )


def transformers_scores(model, tokens: TokenizedPairs) -> np.ndarray:
    found = []
    with torch.inference_mode():
        for begin, end in zip(tokens.offsets, tokens.offsets[1:], strict=False):
            inputs = {"input_ids": torch.from_numpy(tokens.ids[None, begin:end]).long()}
            if isinstance(model, BertForSequenceClassification):
                inputs["token_type_ids"] = torch.from_numpy(tokens.token_type_ids[None, begin:end]).long()
            found.append(model(**inputs).logits.item())
    return np.array(found, np.float32)


def check_packed_forward(folder: Path, kernels: ModuleType, rows: int, longest: int, budgets: tuple[int, ...]) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = tokens_of(rows, longest, model.config.vocab_size)
    engine = PackedEngine(exact_forward(model, PackedForward), EngineChoice("torch", "cpu", "fp32"))
    engine._forward.kernels = kernels
    expected = transformers_scores(model, tokens)
    assert expected.std() > 0.1
    for budget in budgets:
        found = Dispatcher(engine, TokenBudget(budget)).score(tokens, np.arange(rows)).scores
        assert np.abs(found - expected).max() <= 1e-5


def test_packed_forward_is_that_of_transformers(small: Path):
    """In fp32 it gives the same scores to 1e-5, for lengths from 2 to 200 and whatever shares a batch."""
    check_packed_forward(small, plain, rows=24, longest=200, budgets=(199, 300, 4096))


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # what fills a batch up is any number
@pytest.mark.skipif(torch.cuda.is_available(), reason="on CUDA the kernels are compiled, and have tests of their own")
@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="Triton is installed nowhere else")
def test_kernels_are_right(small: Path):
    """The same with the Triton kernels, run by Triton's interpreter; lengths above 32 take more than one tile."""
    from stsb_batch.inference.engines import kernels

    check_packed_forward(small, kernels, rows=8, longest=70, budgets=(160,))


def test_packed_engine_goes_through_the_whole_pipeline(bert: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """In the place of CUDA's engine, on the CPU, it gives the scores of transformers for real texts."""
    choice = EngineChoice("torch", "cpu", "fp32")
    monkeypatch.setitem(
        OPENERS, "torch", lambda checkpoint, *_: PackedEngine(exact_forward(load_model(checkpoint), PackedForward), choice)
    )
    assert np.abs(scores(bert, choice, tmp_path) - reference(bert)).max() <= 1e-4


def test_cuda_path_waits_only_when_scores_are_asked_for(bert: Path, monkeypatch: pytest.MonkeyPatch):
    """With stand-ins for CUDA's calls: three batches start before one is waited for, and the scores are the CPU's."""
    model = load_model(open_checkpoint(bert))
    engine = TorchEngine(model, EngineChoice("torch", "cpu", "fp32"))
    columns = (pa.array(make_pairs(90)[name], pa.large_string()) for name in ("sentence1", "sentence2"))
    tokens = tokenizer(64).encode(*columns)
    batches = [gather_batch(tokens, rows) for rows in plan_batches(tokens.lengths, 256)][:3]
    expected = [engine.submit(engine.stage(batch))() for batch in batches]
    waited, real_to, real_empty = [], torch.Tensor.to, torch.empty

    class Event:
        recorded = False

        def record(self) -> None:
            self.recorded = True

        def wait(self) -> None:
            assert self.recorded

        def synchronize(self) -> None:
            if self.recorded:
                waited.append(self)

    def unpinned(*size, pin_memory: bool = False, **options) -> torch.Tensor:
        return real_empty(*size, **options)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: SimpleNamespace(wait_stream=lambda stream: None))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_, **__: real_to(self, "cpu"))
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, **_: self)
    monkeypatch.setattr(torch, "empty", unpinned)
    engine = TorchEngine(model, EngineChoice("torch", "cuda", "fp32"))
    assert engine.depth >= 3
    collects = [engine.submit(engine.stage(batch)) for batch in batches]
    assert not waited
    assert all(np.array_equal(collect(), scores) for collect, scores in zip(collects, expected, strict=True))
    assert len(waited) == 3


class Recorder:
    """Stand-in for CUDA graphs: `replay` repeats what was called during the capture, on the same tensors."""

    def __init__(self, forward) -> None:
        self.forward, self.graph, self.replays = forward, None, 0

    def __call__(self, numbers: torch.Tensor, **shape: int) -> torch.Tensor:
        scores = self.forward(numbers, **shape)
        if self.graph is not None:
            self.graph.run = lambda: scores.copy_(self.forward(numbers, **shape))
        return scores

    def stand_in(self, monkeypatch: pytest.MonkeyPatch, failure: str = "") -> None:
        recorder = self

        class Graph:
            def replay(self) -> None:
                recorder.replays += 1
                self.run()

            def pool(self) -> str:
                return "pool"

        @contextmanager
        def capture(graph: Graph, *, pool: str | None, capture_error_mode: str):
            if failure:
                raise RuntimeError(failure)
            recorder.graph = graph
            yield
            recorder.graph = None

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", capture)


@pytest.mark.parametrize("failure", ["", "operation not permitted when stream is capturing"])
def test_graphs_give_the_scores_of_the_forward_pass(bert: Path, failure: str, monkeypatch: pytest.MonkeyPatch):
    """A shape is run, then captured, then replayed, with the scores of the plain pass; a failed capture changes nothing."""
    model = AutoModelForSequenceClassification.from_pretrained(bert).eval()
    forward = exact_forward(model, PackedForward)
    recorder, rng = Recorder(forward), np.random.default_rng(0)
    recorder.stand_in(monkeypatch, failure)
    graphed, tokens = GraphedForward(recorder), tokens_of(40, 30, 1_000)
    with torch.inference_mode():
        for size in (320, 320, 640, 320, 640, 320):
            batch = pack_batch(tokens, rng.choice(40, 9, replace=False), size)
            numbers, shape = (
                torch.from_numpy(batch.numbers),
                {"capacity": batch.capacity, "pairs": batch.capacity, "longest": 32},
            )
            assert torch.equal(graphed(numbers, **shape)[:9], forward(numbers, **shape)[:9])
    assert recorder.replays == (0 if failure else 4)


@pytest.mark.gpu
def test_cuda_takes_kernels_and_graphs(small: Path, tmp_path: Path):
    """On CUDA in fp16 the kernels run, shapes that recur are captured, and replayed scores have the same bits."""
    engine = open_engine(open_checkpoint(small), FP16, cache=tmp_path)
    assert engine._forward._forward.kernels.__name__.endswith("kernels")
    tokens = tokens_of(64, 60, 1_000)
    batch = pack_batch(tokens, plan_packed(tokens.lengths, 4096)[0], 4096)
    once, *again = [engine.submit(engine.stage(batch))() for _ in range(4)]
    assert engine._forward._captured
    assert all(np.array_equal(once[: len(tokens.lengths)], scores[: len(tokens.lengths)]) for scores in again)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("longest", [12, 31, 64, 100, 512])
def test_cuda_kernels_agree_with_plain_operations(small: Path, precision: str, longest: int, tmp_path: Path):
    """Whatever the lengths, the kernels' scores are as near to fp32 as those of torch's operations in the same precision."""
    choice, tokens = EngineChoice("torch", "cuda", precision), tokens_of(50, longest, 1_000)
    found = []
    for kernels in (None, plain):
        engine = open_engine(open_checkpoint(small), choice, cache=tmp_path)
        engine._forward._forward.kernels = kernels or engine._forward._forward.kernels
        found.append(Dispatcher(engine, TokenBudget(2048)).score(tokens, np.arange(50)).scores)
    expected = transformers_scores(load_model(open_checkpoint(small)), tokens)
    ours, torchs = (np.sqrt(np.mean((scores - expected) ** 2)) for scores in found)
    assert ours <= 1.3 * torchs <= {"fp16": 0.02, "bf16": 0.2}[precision]


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["bert", "distilbert"])
def test_cuda_fp16_agrees_with_transformers(model: str, request: pytest.FixtureRequest, tmp_path: Path):
    """Heads too small for the kernels take torch's operations, with the same scores."""
    folder = request.getfixturevalue(model)
    assert np.abs(scores(folder, FP16, tmp_path) - reference(folder)).max() <= 0.05


@pytest.mark.gpu
def test_cuda_same_pair_same_score_to_the_bit(small: Path, tmp_path: Path):
    """All batches have one size: a score does not depend on neighbours, order, batch or window."""
    engine = open_engine(open_checkpoint(small), FP16, cache=tmp_path)
    check_same_bits(engine, [(TokenBudget(1024), window) for window in (60, 60, 7, 1)])


@pytest.mark.gpu
def test_cuda_out_of_memory_is_survived(small: Path, tmp_path: Path):
    """With a budget far above the card's memory the batches shrink, and the scores are those of a small budget."""
    tokens, budget = tokens_of(5_000, 60, 1_000), TokenBudget(4_096)
    engine = open_engine(open_checkpoint(small), FP16, cache=tmp_path)
    expected = Dispatcher(engine, budget).score(tokens, np.arange(5_000)).scores
    torch.cuda.set_per_process_memory_fraction(256e6 / torch.cuda.mem_get_info()[1])
    try:
        large = TokenBudget(1 << 20)
        found = Dispatcher(engine, large).score(tokens, np.arange(5_000))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert large.tokens < 1 << 20
    assert np.abs(found.scores - expected).max() <= 2e-3


@pytest.mark.gpu
def test_cuda_scores_a_file(small: Path, pairs_file: Path, settings: Settings):
    """From Parquet to Parquet with all defaults: fp16 on CUDA, every row scored, the gap to fp32 in the report."""
    output = pairs_file.with_name("out.parquet")
    outcome = score_dataset(ScoreRequest(str(pairs_file), str(output), model=str(small), settings=settings))
    assert pl.read_parquet(output)["score"].null_count() == 0
    figures = dict(outcome.report.filter(slice="all").select("metric", "value").iter_rows())
    assert 0 < figures["parity_max_gap"] <= 0.05


@pytest.mark.gpu
def test_cuda_trains(small: Path, tmp_path: Path):
    """A recipe runs on CUDA in fp16; its checkpoint is finite and loads in plain transformers."""
    frame = make_pairs(160).select(left="sentence1", right="sentence2", label="label")
    labels = Labels(frame[:100], frame[100:130], frame[130:])
    gold = Stage(epochs=2, batch_size=16, warmup_steps=2)
    recipe = Recipe("t", gold=gold, silver=replace(gold, epochs=1), silver_factor=1.0)
    steps = []
    train(small, labels, recipe, tmp_path / "out", progress=steps.append)
    assert np.isfinite(steps[-1].figures["val_mse"])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    inputs = AutoTokenizer.from_pretrained(tmp_path / "out")("red pump", "blue pump", return_tensors="pt")
    with torch.inference_mode():
        assert model(**inputs).logits.isfinite().all()
