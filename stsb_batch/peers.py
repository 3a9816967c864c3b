"""The usual ways to score pairs, for the benchmark: each with its documented defaults, and with its best settings.

The best settings are the longest texts first, and the fastest precision and batch size of a small sweep on a sample.
"""

import contextlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from stsb_batch.device import torch_device
from stsb_batch.models.checkpoint import Checkpoint, load_model, load_tokenizer

BATCHES = {"cpu": (32, 128), "mps": (32, 128), "cuda": (32, 128, 512)}
WARM_UP = 32  # pairs

Scores = np.ndarray
Inputs = dict[str, np.ndarray]
Predict = Callable[[list[tuple[str, str]]], Scores]
Runner = Callable[[Path, Path], Scores]  # input file, output file


@dataclass(frozen=True)
class Contender:
    """One way to score a file: its name, its settings in words, and the function."""

    name: str
    setting: str
    run: Runner


def find_peers(checkpoint: Checkpoint, sample: pl.DataFrame, echo: Callable[[str], None]) -> Iterator[Contender]:
    """Yield the contenders whose packages are installed; sweeps are timed on `sample` and their results passed to `echo`."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    device = torch_device()
    if find_spec("sentence_transformers"):
        default = _cross_encoder(checkpoint, "float32", 32)
        yield Contender("CrossEncoder default", "float32, batch 32", _with_files(default, longest_first=False))
        half = "float16" if device == "cuda" else "bfloat16"
        sweep = [(dtype, batch) for dtype in ("float32", half) for batch in BATCHES[device]]
        yield _best("CrossEncoder", {f"{d}, batch {b}": _cross_encoder(checkpoint, d, b) for d, b in sweep}, sample, echo)
    pipeline = _pipeline(checkpoint)
    yield Contender("transformers pipeline", "float32, batch 32", _with_files(pipeline, longest_first=False))
    if find_spec("onnxruntime") and find_spec("onnx"):
        for precision, predict in _onnx_sessions(checkpoint, device):
            tried = {f"{precision}, batch {batch}": _onnx(checkpoint, predict, batch) for batch in BATCHES[device]}
            yield _best(f"ONNX Runtime {precision}", tried, sample, echo)


def _best(name: str, tried: dict[str, Predict], sample: pl.DataFrame, echo: Callable[[str], None]) -> Contender:
    setting = min(tried, key=lambda setting: _seconds(tried[setting], sample))
    echo(f"{name}, best setting: {setting}")
    return Contender(f"{name} best", f"{setting}, sorted", _with_files(tried[setting], longest_first=True))


def _seconds(predict: Predict, sample: pl.DataFrame) -> float:
    pairs = sorted(sample.rows(), key=lambda pair: -len(pair[0]) - len(pair[1]))
    predict(pairs[:WARM_UP])
    began = time.perf_counter()
    predict(pairs)
    return time.perf_counter() - began


def _with_files(predict: Predict, *, longest_first: bool) -> Runner:
    """Return a function that reads, predicts and writes as a short script would."""

    def run(source: Path, output: Path) -> Scores:
        frame = pl.read_parquet(source, glob=False)
        pairs = list(zip(frame["sentence1"].to_list(), frame["sentence2"].to_list(), strict=True))
        order = np.argsort([-len(a) - len(b) for a, b in pairs], kind="stable") if longest_first else np.arange(len(pairs))
        scores = np.empty(len(pairs), np.float32)
        scores[order] = np.asarray(predict([pairs[row] for row in order]), np.float32).reshape(-1)
        frame.with_columns(score=scores).write_parquet(output)
        return scores

    return run


def _cross_encoder(checkpoint: Checkpoint, dtype: str, batch: int) -> Predict:
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(
        str(checkpoint.path), max_length=checkpoint.max_length, local_files_only=True, model_kwargs={"dtype": dtype}
    )
    identity = torch.nn.Identity()
    return lambda pairs: encoder.predict(pairs, batch_size=batch, activation_fn=identity, show_progress_bar=False)


def _pipeline(checkpoint: Checkpoint) -> Predict:
    from transformers import pipeline

    classify = pipeline(
        "text-classification", str(checkpoint.path), function_to_apply="none", truncation=True, device=torch_device()
    )

    def predict(pairs: list[tuple[str, str]]) -> Scores:
        inputs = [{"text": left, "text_pair": right} for left, right in pairs]
        return np.array([found["score"] for found in classify(inputs, batch_size=32)], np.float32)

    return predict


def _onnx_sessions(checkpoint: Checkpoint, device: str) -> Iterator[tuple[str, Callable[[Inputs], Scores]]]:
    """Export the checkpoint and yield ("float32", run) and, on a CPU, ("int8", run) with dynamic quantisation.

    Nothing is yielded on a machine with CUDA where ONNX Runtime has no CUDA: its CPU speed would not be comparable.
    """
    import onnxruntime
    from onnxruntime.quantization import quant_pre_process, quantize_dynamic

    cuda = device == "cuda"
    if cuda and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return
    providers = [f"{'CUDA' if cuda else 'CPU'}ExecutionProvider"]
    with tempfile.TemporaryDirectory(prefix="stsb-batch-onnx-") as folder:
        plain, prepared, int8 = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "prepared", "int8"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about branches that do not depend on the lengths
            _export(checkpoint, plain)
        paths = {"float32": plain}
        if not cuda:
            with _without_logging():
                quant_pre_process(plain, prepared, skip_symbolic_shape=True)
                quantize_dynamic(prepared, int8)
            paths["int8"] = int8
        for precision, path in paths.items():
            session = onnxruntime.InferenceSession(path, providers=providers)
            yield precision, partial(_run_session, session)


def _run_session(session: Any, inputs: Inputs) -> Scores:
    scores: Scores = session.run(None, inputs)[0]
    return scores


def _export(checkpoint: Checkpoint, path: str) -> None:
    model, names = load_model(checkpoint), load_tokenizer(checkpoint.path).model_input_names

    class Logit(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(**dict(zip(names, inputs, strict=True))).logits
            return logits[:, 0]

    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    axes = {name: {0: "pairs", 1: "tokens"} for name in names}
    torch.onnx.export(Logit().eval(), example, path, input_names=names, dynamic_axes=axes, dynamo=False)


@contextlib.contextmanager
def _without_logging() -> Iterator[None]:
    """Silence the quantiser, which logs advice on its own options."""
    import logging

    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _onnx(checkpoint: Checkpoint, score: Callable[[Inputs], Scores], batch: int) -> Predict:
    tokenizer = load_tokenizer(checkpoint.path)

    def predict(pairs: list[tuple[str, str]]) -> Scores:
        found = []
        for start in range(0, len(pairs), batch):
            left, right = zip(*pairs[start : start + batch], strict=True)
            inputs = tokenizer(
                list(left), list(right), padding=True, truncation=True, max_length=checkpoint.max_length, return_tensors="np"
            )
            found.append(score({name: np.asarray(array, np.int64) for name, array in inputs.items()}))
        return np.concatenate(found)

    return predict
