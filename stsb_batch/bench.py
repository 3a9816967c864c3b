"""This machine against the usual ways to score pairs: same texts, same model, same run, alternating.

Timed is Parquet to Parquet with models loaded and warm: read, tokenise, score, write (ours also checks, hashes and reports).
Peers run as their documentation shows (default) and as well as they can be made to (best: longest texts first, and the best
precision and batch size of a small sweep). Each figure is the median over the rounds.
"""

import datetime as dt
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import torch

from stsb_batch.errors import BadDataError
from stsb_batch.jobs.plan import ScoreRequest
from stsb_batch.jobs.score import score_dataset
from stsb_batch.models.checkpoint import Checkpoint, load_model
from stsb_batch.models.registry import resolve_model
from stsb_batch.report.table import figure
from stsb_batch.scoring.engines import choose_engine
from stsb_batch.settings import Settings

SWEEP = [(dtype, batch) for dtype in ("float32", "bfloat16") for batch in (32, 128)]
SWEEP_PAIRS = 256
MATMUL = (4_096, 384, 1_536)  # rows, inner, columns: one feed-forward product of MiniLM on a batch
SYLLABLES = re.findall("..?.", "kalomirentasvorselpundrachegimwolfenturbisnaxholquazerpil")

Scores = np.ndarray
Runner = Callable[[Path, Path], Scores]  # input file, output file


@dataclass(frozen=True)
class Contender:
    """One way to score a file, with how it was set."""

    name: str
    setting: str
    run: Runner


@dataclass(frozen=True)
class Result:
    """Median seconds and pairs per second of one contender; `gap` is its largest difference from ours."""

    name: str
    setting: str
    seconds: float
    pairs_per_second: float
    gap: float


def make_distinct_pairs(rows: int, seed: int = 0) -> pl.DataFrame:
    """Make pairs in which every sentence is distinct, with about 28 tokens a pair and few long ones, as in STS-B."""
    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(SYLLABLES, size)) for size in rng.choice([1, 2], 4_000, p=[0.6, 0.4])])
    frequency = 1.0 / np.arange(1, len(words) + 1)
    frequency /= frequency.sum()

    def sentence() -> str:
        size = int(np.clip(rng.lognormal(1.35, 0.55), 2, 40))
        return " ".join(rng.choice(words, size, p=frequency))

    texts: dict[str, None] = {}
    while len(texts) < 2 * rows:
        texts[sentence()] = None
    flat = list(texts)
    return pl.DataFrame({"sentence1": flat[:rows], "sentence2": flat[rows : 2 * rows]})


def run_bench(
    *, model: str, settings: Settings, input_: Path | None, rows: int, rounds: int, say: Callable[[str], None]
) -> dict:
    """Measure all contenders on the first `rows` pairs of `input_` (or on made-up ones); returns figures and settings."""
    checkpoint = resolve_model(settings.home, model, timeout=settings.hub_timeout)
    choice = choose_engine(settings.engine, settings.precision)
    with tempfile.TemporaryDirectory(prefix="stsb-batch-bench-") as name:
        folder = Path(name)
        frame = _read(input_, rows) if input_ else make_distinct_pairs(rows)
        frame.write_parquet(folder / "in.parquet")
        frame[:64].write_parquet(folder / "warm.parquet")
        ours = Ours(checkpoint, settings.model_copy(update={"home": folder / "home"}))
        contenders = [Contender("stsb-batch", str(choice), ours), *_peers(checkpoint, frame[:SWEEP_PAIRS], say)]
        for contender in contenders:
            contender.run(folder / "warm.parquet", folder / "out.parquet")
        times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        scores: dict[str, Scores] = {}
        for number in range(rounds):
            for contender in contenders:
                began = time.perf_counter()
                scores[contender.name] = contender.run(folder / "in.parquet", folder / "out.parquet")
                times[contender.name].append(time.perf_counter() - began)
                say(f"round {number + 1} of {rounds}: {contender.name} {times[contender.name][-1]:.1f} s")
    results = [_result(contender, times[contender.name], scores) for contender in contenders]
    ceiling = matmul_ceiling(choice.precision, choice.device)
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
        "share_of_matmul": 2 * ours.tokens * encoder_weights(checkpoint) / results[0].seconds / ceiling,
        "machine": _machine(choice.device),
        "results": [vars(result) for result in results],
    }


def _read(path: Path, rows: int) -> pl.DataFrame:
    frame = pl.scan_parquet(path).head(rows).collect()
    if not {"sentence1", "sentence2"} <= set(frame.columns):
        raise BadDataError(f"{path}: needs columns sentence1 and sentence2 (found: {', '.join(frame.columns)}).")
    return frame.select("sentence1", "sentence2").drop_nulls()


class Ours:
    """Score a file with this package; `tokens` is what the last run's model saw, repeated pairs counted each time."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        self._checkpoint, self._settings, self.tokens = checkpoint, settings, 0

    def __call__(self, source: Path, output: Path) -> Scores:
        request = ScoreRequest(str(source), str(output), model=str(self._checkpoint.path), settings=self._settings)
        outcome = score_dataset(replace(request, overwrite=True))
        self.tokens = round(figure(outcome.report, "tokens_mean") * outcome.rows)
        return pl.read_parquet(output)["score"].to_numpy()


def _peers(checkpoint: Checkpoint, sample: pl.DataFrame, say: Callable[[str], None]) -> list[Contender]:
    """Return the peers that are installed, each with its defaults and at its best."""
    found = []
    if find_spec("sentence_transformers"):
        default = _cross_encoder(checkpoint, "float32", 32)
        found.append(Contender("CrossEncoder default", "float32, batch 32", _with_files(default, longest_first=False)))
        dtype, batch = min(SWEEP, key=lambda setting: _seconds(_cross_encoder(checkpoint, *setting), sample))
        say(f"CrossEncoder at its best here: {dtype}, batch {batch}")
        best = _with_files(_cross_encoder(checkpoint, dtype, batch), longest_first=True)
        found.append(Contender("CrossEncoder best", f"{dtype}, batch {batch}, sorted", best))
    plain = _with_files(_pipeline(checkpoint), longest_first=False)
    return [*found, Contender("transformers pipeline", "float32, batch 32", plain)]


def _cross_encoder(checkpoint: Checkpoint, dtype: str, batch: int) -> Callable[[list], Scores]:
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(
        str(checkpoint.path), max_length=checkpoint.max_length, local_files_only=True, model_kwargs={"dtype": dtype}
    )
    identity = torch.nn.Identity()
    return lambda pairs: encoder.predict(pairs, batch_size=batch, activation_fn=identity, show_progress_bar=False)


def _pipeline(checkpoint: Checkpoint) -> Callable[[list], Scores]:
    from transformers import pipeline

    classify = pipeline(
        "text-classification", str(checkpoint.path), function_to_apply="none", truncation=True, device=_torch_device()
    )

    def predict(pairs: list) -> Scores:
        inputs = [{"text": left, "text_pair": right} for left, right in pairs]
        return np.array([found["score"] for found in classify(inputs, batch_size=32)], np.float32)

    return predict


def _with_files(predict: Callable[[list], Scores], *, longest_first: bool) -> Runner:
    """Read, predict, write, the way a short script would."""

    def run(source: Path, output: Path) -> Scores:
        frame = pl.read_parquet(source)
        pairs = list(zip(frame["sentence1"].to_list(), frame["sentence2"].to_list(), strict=True))
        order = np.argsort([-len(a) - len(b) for a, b in pairs], kind="stable") if longest_first else np.arange(len(pairs))
        scores = np.empty(len(pairs), np.float32)
        scores[order] = np.asarray(predict([pairs[row] for row in order]), np.float32).reshape(-1)
        frame.with_columns(score=scores).write_parquet(output)
        return scores

    return run


def _seconds(predict: Callable[[list], Scores], sample: pl.DataFrame) -> float:
    pairs = sorted(sample.rows(), key=lambda pair: -len(pair[0]) - len(pair[1]))
    predict(pairs[:32])
    began = time.perf_counter()
    predict(pairs)
    return time.perf_counter() - began


def _result(contender: Contender, times: list[float], scores: dict[str, Scores]) -> Result:
    seconds, found = statistics.median(times), scores[contender.name]
    gap = float(np.nanmax(np.abs(found - scores["stsb-batch"])))
    return Result(contender.name, contender.setting, seconds, len(found) / seconds, gap)


def encoder_weights(checkpoint: Checkpoint) -> int:
    """Return the weights of the encoder's matrix products: each costs 2 FLOP a token."""
    config = load_model(checkpoint).config
    hidden, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", None) or config.hidden_dim
    return layers * (4 * hidden * hidden + 2 * hidden * inner)


def matmul_ceiling(precision: str, device: str, *, seconds: float = 1.0) -> float:
    """Return the FLOP/s of a matrix product of the model's size in this precision, the best of repeated measurements."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    rows, inner, columns = MATMUL
    a, b = torch.randn(rows, inner, device=device).to(dtype), torch.randn(inner, columns, device=device).to(dtype)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 10 * 2 * rows * inner * columns / (time.perf_counter() - began))
    return best


def _torch_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _machine(device: str) -> dict:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    packages = ("torch", "transformers", "openvino", "sentence-transformers", "pyarrow", "polars")
    return {"device": name, "cores": os.cpu_count(), "python": platform.python_version()} | {
        package: version(package) for package in packages if find_spec(package.replace("-", "_"))
    }
