"""Open a checkpoint for scoring, and score texts that are already in memory."""

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from stsb_batch.durable import json_sha256, write_atomically
from stsb_batch.errors import BadDataError, StsbBatchError
from stsb_batch.inference.dispatch import TokenBudget
from stsb_batch.inference.engines import ENGINES, EngineChoice, choose_engine, open_engine
from stsb_batch.inference.pipeline import PairScorer
from stsb_batch.inference.same_bits import circumstances, gives_same_bits
from stsb_batch.inference.tokens import PairTokenizer
from stsb_batch.models.checkpoint import Checkpoint, load_tokenizer
from stsb_batch.models.registry import resolve_model
from stsb_batch.settings import Settings

MAX_TOKENS = {"cpu": 4_096, "mps": 4_096, "cuda": 65_536}  # in a batch: enough to fill the device


def open_scorer(
    checkpoint: Checkpoint,
    choice: EngineChoice,
    *,
    max_length: int,
    max_tokens: int | None,
    fixed_shapes: bool = False,
    cache: Path,
    parity: bool = True,
) -> PairScorer:
    """Load tokeniser and engine; the fp32 engine to compare with is loaded when it is first needed."""
    reference = reference_choice(choice)
    return PairScorer(
        PairTokenizer(load_tokenizer(checkpoint.path).backend_tokenizer, max_length=max_length),
        open_engine(checkpoint, choice, cache=cache),
        None if choice == reference else lambda: open_engine(checkpoint, reference, cache=cache),
        TokenBudget(max_tokens or MAX_TOKENS[choice.device], fixed_shapes),
        parity=parity,
    )


def reference_choice(choice: EngineChoice) -> EngineChoice:
    """Return the engine that a choice is compared with: fp32 torch, on the same device where it can be."""
    return EngineChoice("torch", "cpu" if choice.engine == "openvino" else choice.device, "fp32")


def open_plain_scorer(checkpoint: Checkpoint, settings: Settings) -> PairScorer:
    """Open a checkpoint with the torch engine in fp32, which engines are compared with."""
    return _open(checkpoint, choose_engine("torch", "fp32"), settings)


def open_small_scorer(checkpoint: Checkpoint, settings: Settings) -> PairScorer:
    """Open a checkpoint for few pairs: torch in fp32, the quickest to open, unless the settings name engine or precision."""
    engine = "torch" if settings.engine == "auto" else settings.engine
    precision = "fp32" if settings.precision == "auto" else settings.precision
    return _open(checkpoint, choose_engine(engine, precision), settings)


def _open(checkpoint: Checkpoint, choice: EngineChoice, settings: Settings) -> PairScorer:
    return open_scorer(
        checkpoint,
        choice,
        max_length=min(settings.max_length, checkpoint.max_length),
        max_tokens=settings.max_tokens,
        fixed_shapes=settings.fixed_shapes,
        cache=settings.home / "cache",
    )


def same_bits(scorer: PairScorer, checkpoint: Checkpoint, cache: Path) -> bool | None:
    """Say whether a pair has the same score to the bit whatever its neighbours: measured once on a machine, then remembered.

    None where it is not measured: engines that pack give all batches one size. Not to be called while batches are in flight.
    """
    if scorer.engine.packs or scorer.engine.choice.engine not in ENGINES:
        return None
    found = circumstances(checkpoint.digest, scorer.engine.choice, scorer)
    remembered = cache / "same_bits" / json_sha256(found)
    if remembered.is_file() and (text := remembered.read_text()) in ("True", "False"):
        return text == "True"
    verdict = gives_same_bits(scorer)
    with contextlib.suppress(OSError, StsbBatchError):  # then it is measured again
        remembered.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(remembered, str(verdict).encode())
    return verdict


def score_pair(left: str, right: str, *, model: str, settings: Settings) -> tuple[float, Checkpoint]:
    """Score one pair."""
    checkpoint = resolve_model(settings.home, model, timeout=settings.hub_timeout)
    scores = score_texts(open_small_scorer(checkpoint, settings), [left], [right])
    if np.isnan(scores[0]):
        raise BadDataError("A text is blank, so the pair has no score. Give two texts.")
    return float(scores[0]), checkpoint


def score_texts(scorer: PairScorer, left: list[str], right: list[str]) -> np.ndarray:
    """Score lists of texts: (pairs,) float32, NaN where a text is blank."""
    return scorer.score(pa.array(left, pa.string()), pa.array(right, pa.string())).scores
