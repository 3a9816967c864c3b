"""CUDA in half precision, for BERT and DistilBERT: packed batches of one size, replayed as CUDA graphs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from stsb_batch.errors import first_line
from stsb_batch.inference.batches import Batch, PackedBatch
from stsb_batch.inference.engines import Engine, EngineChoice, plain
from stsb_batch.inference.engines.cuda import DEPTH, TILE, OnDevice, Transfer
from stsb_batch.inference.engines.forward import DTYPES, PackedForward
from stsb_batch.inference.engines.graphs import GraphedForward

log = logging.getLogger(__name__)


class PackedEngine(Engine):
    """Run a packed forward pass; the head stays in fp32, so that scores are not rounded to half precision.

    All batches have the same size, and with it the same kernels: a pair's score has the same bits in each.
    """

    packs = True

    def __init__(self, forward: PackedForward, choice: EngineChoice) -> None:
        self.choice = choice
        on_cuda = choice.device == "cuda"
        self._transfer = Transfer() if on_cuda else None
        self.depth = DEPTH if on_cuda else 1
        forward.to(device=choice.device, dtype=DTYPES[choice.precision]).head.float()
        if on_cuda:
            use_fast_kernels(forward)
        self._forward: Callable[..., torch.Tensor] = GraphedForward(forward) if on_cuda else forward

    def stage(self, batch: Batch | PackedBatch) -> "_Staged":
        """Send a batch to the device, and choose its shape: few different ones, for each is captured by itself."""
        assert isinstance(batch, PackedBatch), "bug: this engine takes packed batches"
        pairs, longest = 1 << (batch.pairs - 1).bit_length(), -(-batch.longest // TILE) * TILE
        shape = {"capacity": batch.capacity, "pairs": min(batch.capacity, pairs), "longest": longest}
        return _Staged(self._transfer.bring(batch.numbers) if self._transfer else torch.from_numpy(batch.numbers), shape)

    @torch.inference_mode()
    def submit(self, batch: "_Staged") -> Callable[[], np.ndarray]:
        """Start one batch. On CUDA nothing here waits for the device; elsewhere the scores are there."""
        numbers = batch.numbers
        if isinstance(numbers, torch.Tensor):
            scores = self._forward(numbers, **batch.shape).numpy()
            return lambda: scores
        assert self._transfer, "bug: a batch on the device of an engine without one"
        numbers.ready.wait()
        return self._transfer.fetch(self._forward(*numbers.tensors, **batch.shape), numbers)


@dataclass(frozen=True)
class _Staged:
    numbers: OnDevice | torch.Tensor
    shape: dict[str, int]


@torch.inference_mode()
def use_fast_kernels(forward: PackedForward) -> None:
    """Give a forward pass our Triton kernels where they run: not without a C compiler, or on a card they do not know."""
    tokens = np.concatenate([np.ones(24), np.arange(24), np.zeros(24), [0, 7], [7, 17]]).astype(np.int32)
    try:
        from stsb_batch.inference.engines import kernels

        forward.kernels = kernels
        forward(torch.from_numpy(tokens).to(forward.positions.weight.device), capacity=2, pairs=2, longest=TILE).cpu()
    except Exception as error:  # noqa: BLE001 - Triton raises what its compilers raise
        log.warning("Triton kernels do not run here, torch's slower ones are used: %s", first_line(error))
        forward.kernels = plain
