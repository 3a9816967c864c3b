"""OpenVINO on the CPU: the checkpoint is converted once and the converted model kept in the cache folder."""

import os
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# oneDNN below OpenVINO keeps 1,024 kernels of its own, each for one shape, and reads this when it is loaded. With so many,
# memory grew by 10 MB with each 100,000 new pairs; with few, by 2.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

import openvino as ov
from openvino import opset13 as ops

from stsb_batch.durable import fsync_path
from stsb_batch.inference.batches import Batch
from stsb_batch.inference.engines import Engine, EngineChoice
from stsb_batch.models.checkpoint import Checkpoint, load_model, takes_segments

CONVERSION = 3  # counts changes of what is converted
KERNELS = 64  # prepared for shapes seen before; the default of 5,000 lets memory grow with the run
GROUP = 64  # numbers that share a scale in int8
TRACED_TOKENS = 512  # shorter than a window of local attention, and a model would be traced without that window
PRECISIONS: dict[str, dict[str, object]] = {
    "fp32": {"INFERENCE_PRECISION_HINT": "f32"},
    "bf16": {"INFERENCE_PRECISION_HINT": "bf16"},
    "int8": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP},
}


class OpenVinoEngine(Engine):
    """A compiled OpenVINO model with free batch and length dimensions.

    OpenVINO divides the cores among requests as suits the machine. One more than that is kept in flight: on two cores this
    was 2 % faster than a single request on both of them, and without it 25 % slower, always with the same bits.
    """

    def __init__(self, checkpoint: Checkpoint, choice: EngineChoice, *, cache: Path) -> None:
        self.choice = choice
        core = ov.Core()
        try:
            model = core.read_model(_converted(checkpoint, cache))
        except RuntimeError:  # what lies in the cache is damaged
            shutil.rmtree(_converted(checkpoint, cache).parent)
            model = core.read_model(_converted(checkpoint, cache))
        if choice.precision == "int8":
            compress_weights(model)
        self._inputs = {port.get_any_name() for port in model.inputs}
        options: dict[str, object] = {"PERFORMANCE_HINT": "THROUGHPUT", "CPU_RUNTIME_CACHE_CAPACITY": KERNELS} | dict(
            PRECISIONS[choice.precision]
        )
        compiled = core.compile_model(model, "CPU", options)
        self.depth = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
        self._free = [compiled.create_infer_request() for _ in range(self.depth)]

    def submit(self, batch: Batch) -> Callable[[], np.ndarray]:
        """Start one batch of (pairs, tokens) on a request that is free."""
        request = self._free.pop()

        def collect() -> np.ndarray:
            try:
                request.wait()
                return request.get_output_tensor(0).data.astype(np.float32).reshape(-1)
            finally:
                self._free.append(request)

        try:
            request.start_async({name: getattr(batch, name) for name in self._inputs})
        except BaseException:
            self._free.append(request)
            raise
        return collect


def compress_weights(model: ov.Model) -> None:
    """Store the weights of matrix products as int8, with a scale for each `GROUP` of a row; OpenVINO then rounds activations
    in the same way at run time (dynamic quantisation) and multiplies in integers.

    Whole groups both ways: with one row, the head's single neuron, OpenVINO 2026.4 gave noise in one process of four.
    """
    for product in [node for node in model.get_ops() if node.get_type_name() == "MatMul"]:
        weights = product.input_value(1).get_node()
        whole_groups = weights.get_type_name() == "Constant" and not any(size % GROUP for size in weights.shape)
        if not whole_groups or not product.get_attributes()["transpose_b"]:
            continue
        groups = weights.data.reshape(weights.shape[0], -1, GROUP)
        scale = np.maximum(np.abs(groups).max(2, keepdims=True) / 127, np.float32(1e-30))
        rounded = ops.convert(ops.constant(np.round(groups / scale).astype(np.int8)), "f32")
        scaled = ops.multiply(rounded, ops.constant(scale))
        weights_in_fp32 = ops.reshape(scaled, ops.constant(list(weights.shape)), special_zero=False)
        product.input(1).replace_source_output(weights_in_fp32.output(0))
    model.validate_nodes_and_infer_types()


def _converted(checkpoint: Checkpoint, cache: Path) -> Path:
    """Return the path of the converted model, converting it first where the cache has none for this digest."""
    folder = cache / "openvino" / f"{checkpoint.digest[:16]}-{ov.__version__.split('-')[0]}-{CONVERSION}"
    if (folder / "model.xml").is_file():
        return folder / "model.xml"
    staged = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    staged.mkdir(parents=True)
    try:
        ov.save_model(_convert(checkpoint), staged / "model.xml", compress_to_fp16=False)
        for file in staged.iterdir():
            fsync_path(file)
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

    from stsb_batch.inference.engines.forward import ExactForward, exact_forward

    model = load_model(checkpoint)
    names = ["input_ids", *(["token_type_ids"] if takes_segments(model) else [])]
    ours = exact_forward(model, ExactForward)
    length = 8 if ours else min(TRACED_TOKENS, checkpoint.max_length)
    example = tuple(torch.ones(2, length, dtype=torch.int64) for _ in names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of branches on shapes that these models take one way only
        converted = convert_model(ours or _logit_of(model, names), example_input=example)
    for port, name in zip(converted.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    return converted


def _logit_of(model: Any, names: list[str]) -> Any:
    """Wrap any architecture: inputs in a fixed order in, the single logit (pairs,) out, which is what tracing needs."""
    import torch

    class Logit(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any) -> Any:
            return self.model(**dict(zip(names, inputs, strict=True))).logits[:, 0]

    return Logit().eval()
