"""What both torch engines need of CUDA: copies that overlap with computing, and scores on their way back."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from threading import Lock

import numpy as np
import torch

DEPTH = 12  # batches in flight: enough that the device has work while other threads keep this one waiting
TILE = 32  # tokens that one program of the attention kernel takes, and that it attends to at a time


@dataclass(frozen=True)
class OnDevice:
    """Arrays on their way to the device; `ready` has happened when they are there."""

    tensors: list[torch.Tensor]
    ready: torch.cuda.Event


class Transfer:
    """Copies through pinned memory, on the way in by a stream of their own while earlier batches are scored.

    That memory is taken in turn and kept: to pin new memory for each batch cost a quarter of the speed on an H200.
    """

    def __init__(self) -> None:
        self._stream, self._lock = torch.cuda.Stream(), Lock()
        self._pinned = cycle([_Pinned() for _ in range(2 * DEPTH)])

    def bring(self, *arrays: np.ndarray) -> OnDevice:
        """Start copying arrays to the device, from any thread."""
        with self._lock, torch.cuda.stream(self._stream):
            tensors, ready = [next(self._pinned).send(array) for array in arrays], torch.cuda.Event()
            ready.record()
        return OnDevice(tensors, ready)

    def fetch(self, scores: torch.Tensor, inputs: OnDevice) -> Callable[[], np.ndarray]:
        """Start copying `scores` (pairs,) back; the function returned waits for them and keeps their inputs until then."""
        host, done = torch.empty(scores.shape, pin_memory=True), torch.cuda.Event()
        host.copy_(scores, non_blocking=True)
        done.record()

        def collect(inputs: OnDevice = inputs) -> np.ndarray:
            done.synchronize()
            return host.numpy()

        return collect


class _Pinned:
    """A piece of pinned memory that grows as needed; `_free` has happened when its last copy has left it."""

    def __init__(self) -> None:
        self._memory, self._free = torch.empty(0, dtype=torch.uint8, pin_memory=True), torch.cuda.Event()

    def send(self, array: np.ndarray) -> torch.Tensor:
        """Start the copy of an array to the device, by way of this memory."""
        self._free.synchronize()
        if self._memory.numel() < array.nbytes:
            self._memory = torch.empty(array.nbytes, dtype=torch.uint8, pin_memory=True)
        tensor = torch.from_numpy(array)
        pinned = self._memory[: array.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)
        sent = pinned.to("cuda", non_blocking=True)
        self._free.record()
        return sent
