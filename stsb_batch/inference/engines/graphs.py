"""CUDA graphs: a forward pass captured once for each shape and launched as a whole from then on.

With many small kernels the host's launches can take longer than the kernels themselves.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from stsb_batch.errors import first_line

log = logging.getLogger(__name__)
MAX_GRAPHS = 128


@dataclass(frozen=True)
class Captured:
    """A graph, and the tensors it reads and writes."""

    graph: torch.cuda.CUDAGraph
    numbers: torch.Tensor
    scores: torch.Tensor


class GraphedForward:
    """Run `forward(numbers, **shape)` as it is when a shape is new, which warms the kernels up; later capture and replay it.

    What is returned is overwritten by the next call of the same shape: copy it on the same stream. Where a capture fails,
    the forward pass stays as it is.
    """

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        self._forward = forward
        self._seen: set[tuple] = set()
        self._captured: dict[tuple, Captured] = {}
        self._pool: Any = None
        self._works = True

    def __call__(self, numbers: torch.Tensor, **shape: int) -> torch.Tensor:
        key = (len(numbers), *shape.values())
        if key in self._seen and key not in self._captured and self._works and len(self._captured) < MAX_GRAPHS:
            self._capture(key, numbers, shape)
        self._seen.add(key)
        if key not in self._captured:
            return self._forward(numbers, **shape)
        captured = self._captured[key]
        captured.numbers.copy_(numbers, non_blocking=True)
        captured.graph.replay()
        return captured.scores

    def _capture(self, key: tuple, numbers: torch.Tensor, shape: dict[str, int]) -> None:
        """Capture one forward pass; all graphs share the memory of what lies between input and scores."""
        numbers, graph = numbers.clone(), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                scores = self._forward(numbers, **shape)
        except RuntimeError as error:
            log.warning("no CUDA graphs, each kernel is launched by itself: %s", first_line(error))
            self._works = False
            return
        self._pool = graph.pool()
        self._captured[key] = Captured(graph, numbers, scores)
