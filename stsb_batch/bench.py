"""Compare this package with the usual ways to score pairs, on this machine: same texts, same model, alternating.

Each contender reads Parquet, tokenises, scores and writes Parquet, with its model loaded and warm; ours also checks, hashes
and reports. Each figure is the median over the rounds. Tokenising is measured separately, against the library `tokenizers`.
The other contenders are in `peers.py`.
"""

import datetime as dt
import itertools
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from stsb_batch.errors import BadDataError, BadFileError
from stsb_batch.inference.chunks import ChunkEncoder, is_chunk_exact
from stsb_batch.inference.engines import EngineChoice, choose_engine
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.inference.scorer import MAX_TOKENS
from stsb_batch.models.checkpoint import Checkpoint, load_model, load_tokenizer
from stsb_batch.models.registry import resolve_model
from stsb_batch.pairs.schema import Columns
from stsb_batch.peers import Contender, Scores, find_peers
from stsb_batch.refresh.label_rows import decoded
from stsb_batch.refresh.sample import read_sample
from stsb_batch.report.table import figure
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.job import score_dataset
from stsb_batch.scoring.spec import ScoreSpec
from stsb_batch.settings import Settings

ROWS = {"cpu": 2_000, "mps": 2_000, "cuda": 100_000}  # by default: a run has to take more than a second to be measured
WARM_UP_PAIRS = {"cpu": 256, "mps": 256, "cuda": 4_096}  # to find the peers' best settings and to warm up all contenders
TOKENISED_PAIRS = 65_000
SIDES = {"sentence1": "left", "sentence2": "right"}
VOCABULARY = 60_000
SYLLABLES = re.findall("..?.", "kalomirentasvorselpundrachegimwolfenturbisnaxholquazerpil")


@dataclass(frozen=True)
class Result:
    """Median seconds and pairs per second of one contender; `gap` is the largest difference of a score from ours."""

    name: str
    setting: str
    seconds: float
    pairs_per_second: float
    gap: float


def make_distinct_pairs(rows: int, seed: int = 0) -> pl.DataFrame:
    """Make pairs in which every sentence is distinct, with about 28 tokens per pair and few long ones, as in STS-B.

    Words follow Zipf's law over a large vocabulary, so that new words keep appearing, as in natural text. Returns columns
    `sentence1` and `sentence2`.
    """
    rng = np.random.default_rng(seed)
    words = ["".join(word) for size in (1, 2, 3, 4) for word in itertools.product(SYLLABLES, repeat=size)][:VOCABULARY]
    frequency = 1.0 / np.arange(10, len(words) + 10)
    texts: dict[str, None] = {}
    while len(texts) < 2 * rows:
        sizes = np.clip(rng.lognormal(1.15, 0.6, 2 * rows), 2, 40).astype(int)
        drawn = iter(rng.choice(len(words), sizes.sum(), p=frequency / frequency.sum()).tolist())
        texts |= dict.fromkeys(" ".join(words[next(drawn)] for _ in range(size)) for size in sizes.tolist())
    flat = list(texts)
    return pl.DataFrame({"sentence1": flat[:rows], "sentence2": flat[rows : 2 * rows]})


def run_bench(
    *, model: str, settings: Settings, input_: Path | None, rows: int | None, rounds: int, echo: Callable[[str], None]
) -> dict[str, Any]:
    """Measure all contenders on the first `rows` pairs of `input_`, or on made-up pairs; returns figures and settings.

    `echo` is called with lines of progress. The tokeniser is measured first, before other threads exist. Raises
    `BadDataError` where the input lacks the columns `sentence1` and `sentence2`.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else the pipeline turns it off for all contenders
    checkpoint = resolve_model(settings.home, model, timeout=settings.hub_timeout)
    choice = choose_engine(settings.engine, settings.precision)
    rows = rows or ROWS[choice.device]
    tokeniser = tokeniser_speed(
        checkpoint, _read(input_, TOKENISED_PAIRS) if input_ else make_distinct_pairs(TOKENISED_PAIRS)
    )
    with tempfile.TemporaryDirectory(prefix="stsb-batch-bench-") as name:
        folder = Path(name)
        frame = _read(input_, rows) if input_ else make_distinct_pairs(rows)
        frame.write_parquet(folder / "in.parquet")
        warm_up = frame[: WARM_UP_PAIRS[choice.device]]
        warm_up.write_parquet(folder / "warm.parquet")
        ours = Ours(checkpoint, settings.model_copy(update={"home": folder / "home"}))
        contenders = [Contender("stsb-batch", str(choice), ours)]
        if choice.engine == "openvino" and choice.precision != "int8":
            int8 = Ours(checkpoint, ours.settings.model_copy(update={"engine": "openvino", "precision": "int8"}))
            contenders.append(Contender("stsb-batch int8", "openvino int8 on cpu", int8))
        contenders += find_peers(checkpoint, warm_up, echo)
        for contender in contenders:
            contender.run(folder / "warm.parquet", folder / "out.parquet")
        times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        scores: dict[str, Scores] = {}
        for number in range(rounds):
            for contender in contenders:
                began = time.perf_counter()
                scores[contender.name] = contender.run(folder / "in.parquet", folder / "out.parquet")
                times[contender.name].append(time.perf_counter() - began)
                echo(f"round {number + 1} of {rounds}: {contender.name} {times[contender.name][-1]:.1f} s")
    results = [_result(contender, times[contender.name], scores) for contender in contenders]
    ceiling = matmul_ceiling(checkpoint, choice)
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "input": input_.name if input_ else "made up, every sentence distinct",
        "pairs": frame.height,
        "tokens": ours.tokens,
        "rounds": rounds,
        "model": checkpoint.name,
        "engine": str(choice),
        "tokens_per_second": ours.tokens / results[0].seconds,
        "matmul_gflops": ceiling / 1e9,
        "tokeniser": tokeniser,
        "share_of_matmul": 2 * ours.tokens * encoder_weights(checkpoint) / results[0].seconds / ceiling,
        "machine": _machine(choice.device),
        "results": [vars(result) for result in results],
    }


def _read(path: Path, rows: int) -> pl.DataFrame:
    """Read the first pairs of a file, without those with a null or with bytes that are not UTF-8."""
    try:
        table = read_sample(str(path), Columns(), rows=rows, spaced=False).rows
    except BadFileError as error:
        if error.reason == "SCHEMA":
            raise BadDataError(f"{path}: needs columns sentence1 and sentence2, both text.") from error
        raise
    sides = (pl.Series(name, table[side].cast(pa.large_binary())) for name, side in SIDES.items())
    return pl.DataFrame([decoded(cells) for cells in sides]).drop_nulls()


class Ours:
    """Score a file with this package; `tokens` are those of the last run, repeated pairs counted each time."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        self._checkpoint, self.settings, self.tokens = checkpoint, settings, 0
        self._scorer: PairScorer | None = None

    def __call__(self, source: Path, output: Path) -> Scores:
        request = ScoreRequest(str(source), str(output), model=str(self._checkpoint.path), settings=self.settings)
        outcome = score_dataset(replace(request, overwrite=True), open_scorer=self._open_scorer)
        self.tokens = round((figure(outcome.report, "tokens_mean") or 0.0) * outcome.rows)
        return pl.read_parquet(output, glob=False)["score"].to_numpy()

    def _open_scorer(self, spec: ScoreSpec) -> PairScorer:
        """Load the model once, as the peers do."""
        self._scorer = self._scorer or spec.open_scorer()
        return self._scorer


def _result(contender: Contender, times: list[float], scores: dict[str, Scores]) -> Result:
    seconds, found = statistics.median(times), scores[contender.name]
    gap = float(np.nanmax(np.abs(found - scores["stsb-batch"])))
    return Result(contender.name, contender.setting, seconds, len(found) / seconds, gap)


def tokeniser_speed(checkpoint: Checkpoint, frame: pl.DataFrame, *, rounds: int = 3) -> dict[str, float]:
    """Compare the chunk cache with `tokenizers` on all texts of a frame, alternating; speeds are sentences per second.

    `cold` starts with an empty cache in each round, `warm` encodes the same texts again. `differences` counts texts with
    different token ids. Empty for tokenisers that the chunk cache does not support.
    """
    backend = load_tokenizer(checkpoint.path).backend_tokenizer
    if not is_chunk_exact(backend):
        return {}
    backend.no_truncation()
    backend.no_padding()
    texts = pa.concat_arrays([frame[name].to_arrow().cast(pa.large_string()) for name in ("sentence1", "sentence2")])
    strings = texts.to_pylist()
    seconds: dict[str, list[float]] = {name: [] for name in ("tokenizers", "cold", "warm")}
    for _ in range(rounds):
        encoder = ChunkEncoder(backend)
        calls: dict[str, Callable[[], Any]] = {
            "tokenizers": partial(backend.encode_batch_fast, strings, add_special_tokens=False),
            "cold": partial(encoder.encode, texts),
            "warm": partial(encoder.encode, texts),
        }
        results: dict[str, Any] = {}
        for name, call in calls.items():
            began = time.perf_counter()
            results[name] = call()
            seconds[name].append(time.perf_counter() - began)
    ids, bounds = results["cold"].ids, results["cold"].offsets
    expected = (encoding.ids for encoding in results["tokenizers"])
    different = sum(ids[a:b].tolist() != found for a, b, found in zip(bounds, bounds[1:], expected, strict=False))
    speeds = {name: len(texts) / statistics.median(times) for name, times in seconds.items()}
    return {"sentences": len(texts), "differences": different} | speeds


def encoder_weights(checkpoint: Checkpoint) -> int:
    """Return the number of weights in the encoder's matrix products, each of which costs 2 FLOP per token."""
    layers, hidden, inner = _encoder_sizes(checkpoint)
    return layers * (4 * hidden * hidden + 2 * hidden * inner)


@lru_cache(maxsize=1)  # two figures need them, and a model has to be loaded for them
def _encoder_sizes(checkpoint: Checkpoint) -> tuple[int, int, int]:
    config = load_model(checkpoint).config
    return config.num_hidden_layers, config.hidden_size, getattr(config, "intermediate_size", None) or config.hidden_dim


def matmul_ceiling(checkpoint: Checkpoint, choice: EngineChoice, *, seconds: float = 1.0) -> float:
    """Return the FLOP/s of the model's feed-forward matrix product on a batch, the best of repeated measurements.

    The precision is that of scoring, except fp32 for int8, which torch does not multiply. `seconds` is how long to measure.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(choice.precision, torch.float32)
    _, hidden, inner = _encoder_sizes(checkpoint)
    rows = MAX_TOKENS[choice.device]
    a, b = (torch.randn(size, device=choice.device).to(dtype) for size in ((rows, hidden), (hidden, inner)))
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        if choice.device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 10 * 2 * rows * hidden * inner / (time.perf_counter() - began))
    return best


def _machine(device: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    packages = ("torch", "transformers", "openvino", "sentence-transformers", "onnxruntime", "pyarrow", "polars")
    return {"device": name, "cores": os.cpu_count(), "python": platform.python_version()} | {
        package: version(package) for package in packages if find_spec(package.replace("-", "_"))
    }
