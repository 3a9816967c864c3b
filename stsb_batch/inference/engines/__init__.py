"""One interface for all ways to run the forward pass: batches of one length in, float32 scores out."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stsb_batch.device import has_fast_bf16, torch_device
from stsb_batch.errors import ConfigError, UnavailableError, escape_control
from stsb_batch.inference.batches import Batch, PackedBatch
from stsb_batch.models.checkpoint import Checkpoint, load_model

ENGINES = ("auto", "torch", "openvino")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")

# OpenVINO reports its use to Google Analytics from a process of its own, without asking; without this module it is silent.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None stops the import


class Engine(Protocol):
    """A loaded model that takes up to `depth` batches at a time: packed ones where it `packs`, else rectangles."""

    choice: "EngineChoice"
    depth: int = 1
    packs: bool = False

    def stage(self, batch: Batch | PackedBatch) -> Any:
        """Bring a batch to where `submit` wants it, ahead of its turn and in any thread."""
        return batch

    def submit(self, batch: Any) -> Callable[[], np.ndarray]:
        """Start a batch as `stage` returned it. What is returned waits for the raw regression output, (pairs,) float32, on
        the scale the model was trained on.
        """
        ...


@dataclass(frozen=True)
class EngineChoice:
    """Which engine runs where, in which precision."""

    engine: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine} {self.precision} on {self.device}"


def choose_engine(
    engine: str = "auto", precision: str = "auto", *, fast_bf16: Callable[[], bool] = has_fast_bf16
) -> EngineChoice:
    """Resolve `auto` for this machine.

    CUDA runs torch in fp16; a CPU runs OpenVINO, in bf16 where the processor is fast in it. Raises `ConfigError` for
    unknown names and `UnavailableError` for an engine that is not installed or a precision that the device lacks.
    """
    for what, value, known in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise ConfigError(f"Unknown {what} '{escape_control(value)}'. There are: {', '.join(known)}.")
    device = "cpu" if engine == "openvino" else torch_device()
    if engine == "auto":
        engine = "openvino" if device == "cpu" and find_spec("openvino") else "torch"
    if engine == "openvino" and not find_spec("openvino"):
        raise UnavailableError("Engine openvino is not installed. Install it (pip install openvino) or use --engine torch.")
    if precision == "auto":
        precision = {"cuda": "fp16", "mps": "fp32"}.get(device) or ("bf16" if fast_bf16() else "fp32")
    if precision == "fp16" and device != "cuda":
        raise UnavailableError(f"Precision fp16 needs a CUDA device, and this is {device}. Use --precision bf16 or fp32.")
    if precision == "int8" and engine != "openvino":
        raise UnavailableError(f"Precision int8 needs the engine openvino, and this is {engine}. Use --engine openvino.")
    return EngineChoice(engine, device, precision)


def open_engine(checkpoint: Checkpoint, choice: EngineChoice, *, cache: Path) -> Engine:
    """Load a checkpoint into an engine. `cache` is a folder for converted models, keyed by the weights' digest."""
    return OPENERS[choice.engine](checkpoint, choice, cache)


def _open_openvino(checkpoint: Checkpoint, choice: EngineChoice, cache: Path) -> Engine:
    from stsb_batch.inference.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(checkpoint, choice, cache=cache)


def _open_torch(checkpoint: Checkpoint, choice: EngineChoice, _cache: Path) -> Engine:
    from stsb_batch.inference.engines.forward import PackedForward, exact_forward
    from stsb_batch.inference.engines.packed_engine import PackedEngine
    from stsb_batch.inference.engines.torch_engine import TorchEngine

    model = load_model(checkpoint)
    packs = choice.device == "cuda" and choice.precision != "fp32"
    packed = exact_forward(model, PackedForward) if packs else None
    return TorchEngine(model, choice) if packed is None else PackedEngine(packed, choice)


Opener = Callable[[Checkpoint, EngineChoice, Path], Engine]
OPENERS: dict[str, Opener] = {"torch": _open_torch, "openvino": _open_openvino}  # a new engine is one more entry
