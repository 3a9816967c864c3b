"""What both torch engines need of CUDA: copies that overlap with computing, and scores on their way back."""

from collections.abc import Callable
from itertools import cycle

import numpy as np
import torch

DEPTH = 12  # batches under way: enough that the device has work while other threads keep this one waiting
TILE = 32  # tokens that one program of the attention kernel takes, and that it attends to at a time


class Transfer:
    """Copies through pinned memory, on the way in by a stream of their own while earlier batches are scored.

    That memory is taken in turn and kept: to pin new memory for each batch cost a quarter of the speed on an H200.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._pinned = cycle([_Pinned() for _ in range(2 * DEPTH + 2)])  # a batch is one array or two

    def bring(self, array: np.ndarray) -> torch.Tensor:
        """Return the array on the device, ready for what is computed next."""
        compute, pinned = torch.cuda.current_stream(), next(self._pinned)
        held = pinned.hold(torch.from_numpy(array))
        with torch.cuda.stream(self._stream):
            tensor = held.to("cuda", non_blocking=True)
            pinned.free.record()
        compute.wait_stream(self._stream)
        tensor.record_stream(compute)
        return tensor

    def fetch(self, scores: torch.Tensor) -> Callable[[], np.ndarray]:
        """Start the way back of `scores` (pairs,); what is returned waits for them."""
        host = torch.empty(scores.shape, pin_memory=True)
        host.copy_(scores, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def collect() -> np.ndarray:
            done.synchronize()
            return host.numpy()

        return collect


class _Pinned:
    """A piece of pinned memory that grows as needed; `free` has happened when its last copy has left it."""

    def __init__(self) -> None:
        self._memory, self.free = torch.empty(0, dtype=torch.uint8, pin_memory=True), torch.cuda.Event()

    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy of `tensor` in this memory."""
        self.free.synchronize()
        if self._memory.numel() < tensor.nbytes:
            self._memory = torch.empty(tensor.nbytes, dtype=torch.uint8, pin_memory=True)
        return self._memory[: tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)
