"""OpenVINO on the CPU: the checkpoint is converted once and the converted model kept in the cache folder."""

import shutil
import uuid
import warnings
from pathlib import Path

import numpy as np
import openvino as ov

from stsb_batch.models.checkpoint import Checkpoint, load_model, takes_segments
from stsb_batch.scoring.batches import Batch
from stsb_batch.scoring.engines import EngineChoice

CONVERSION = 2  # counts changes of what is converted
PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """A compiled OpenVINO model with free batch and length dimensions."""

    def __init__(self, checkpoint: Checkpoint, choice: EngineChoice, *, cache: Path) -> None:
        self.choice = choice
        core = ov.Core()
        model = core.read_model(_converted(checkpoint, cache))
        self._inputs = {port.get_any_name() for port in model.inputs}
        self._compiled = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": PRECISION_HINTS[choice.precision], "PERFORMANCE_HINT": "LATENCY"}
        )
        self._request = self._compiled.create_infer_request()

    def score(self, batch: Batch) -> np.ndarray:
        """Score one batch: (pairs, tokens) in, (pairs,) float32 out."""
        inputs = {name: getattr(batch, name) for name in self._inputs}
        return self._request.infer(inputs)[0].astype(np.float32).reshape(-1)


def _converted(checkpoint: Checkpoint, cache: Path) -> Path:
    """Return the path of the converted model, converting it first where the cache has none for this digest."""
    folder = cache / "openvino" / f"{checkpoint.digest[:16]}-{ov.__version__.split('-')[0]}-{CONVERSION}"
    if (folder / "model.xml").is_file():
        return folder / "model.xml"
    staged = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    staged.mkdir(parents=True)
    try:
        ov.save_model(_convert(checkpoint), staged / "model.xml", compress_to_fp16=False)
        try:
            staged.rename(folder)
        except OSError:  # another process was faster; its conversion is the same
            if not (folder / "model.xml").is_file():
                raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder / "model.xml"


def _convert(checkpoint: Checkpoint) -> ov.Model:
    import torch
    from openvino import convert_model

    from stsb_batch.scoring.engines.forward import exact_forward

    model = load_model(checkpoint)
    names = ["input_ids", *(["token_type_ids"] if takes_segments(model) else [])]
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of branches on shapes that these models take one way only
        converted = convert_model(exact_forward(model) or _logit_of(model, names), example_input=example)
    for port, name in zip(converted.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    return converted


def _logit_of(model, names: list[str]):
    """Wrap any architecture: inputs in a fixed order in, the single logit (pairs,) out, which is what tracing needs."""
    import torch

    class Logit(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            return self.model(**dict(zip(names, inputs, strict=True))).logits[:, 0]

    return Logit().eval()
