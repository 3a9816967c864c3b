"""CUDA graphs: a forward pass captured once for each shape and launched as a whole from then on.

With many small kernels the host's launches can take longer than the kernels themselves. Shapes recur when batches are filled
up, so graphs come with fixed shapes.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from stsb_batch.errors import first_line

log = logging.getLogger(__name__)
MAX_GRAPHS = 512  # one for each length a pair can have


@dataclass(frozen=True)
class Captured:
    """A graph, and the tensors it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, torch.Tensor]
    scores: torch.Tensor


class GraphedForward:
    """Run `forward(**inputs)` as it is when a shape is met first, which warms the kernels up; then capture it and replay.

    What is returned is overwritten by the next call of the same shape: copy it on the same stream. Where a capture fails,
    the forward pass stays as it is.
    """

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        self._forward = forward
        self._met: set[torch.Size] = set()
        self._captured: dict[torch.Size, Captured] = {}
        self._pool = None
        self._works = True

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        shape = inputs["input_ids"].shape
        if shape in self._met and shape not in self._captured and self._works and len(self._captured) < MAX_GRAPHS:
            self._capture(shape, inputs)
        self._met.add(shape)
        if shape not in self._captured:
            return self._forward(**inputs)
        captured = self._captured[shape]
        for name, tensor in inputs.items():
            captured.inputs[name].copy_(tensor, non_blocking=True)
        captured.graph.replay()
        return captured.scores

    def _capture(self, shape: torch.Size, inputs: dict[str, torch.Tensor]) -> None:
        """Capture one forward pass; all graphs share the memory of what lies between input and scores."""
        inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                scores = self._forward(**inputs)
        except RuntimeError as error:
            log.warning("no CUDA graphs, each kernel is launched by itself: %s", first_line(error))
            self._works = False
            return
        self._pool = graph.pool()
        self._captured[shape] = Captured(graph, inputs, scores)
