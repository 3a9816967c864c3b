"""What both torch engines need of CUDA: copies that overlap with computing, and scores on their way back."""

from collections.abc import Callable

import numpy as np
import torch

DEPTH = 6  # batches under way: enough that the device has work while other threads keep this one waiting


class Transfer:
    """Copies through pinned memory, on the way in by a stream of their own while earlier batches are scored."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def bring(self, array: np.ndarray) -> torch.Tensor:
        """Return the array on the device, ready for what is computed next."""
        compute = torch.cuda.current_stream()
        with torch.cuda.stream(self._stream):
            tensor = torch.from_numpy(array).pin_memory().to("cuda", non_blocking=True)
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
