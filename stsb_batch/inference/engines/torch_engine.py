"""The torch engine: any Hugging Face sequence-classification architecture, on CPU, CUDA or MPS."""

from collections.abc import Callable

import numpy as np
import torch
from transformers import PreTrainedModel

from stsb_batch.inference.batches import Batch, PackedBatch
from stsb_batch.inference.engines import Engine, EngineChoice
from stsb_batch.inference.engines.cuda import DEPTH, OnDevice, Transfer
from stsb_batch.inference.engines.forward import DTYPES, ExactForward, exact_forward
from stsb_batch.models.checkpoint import takes_segments


class TorchEngine(Engine):
    """Run the model in the chosen precision: in fp32 as transformers does, which is what all else is compared with.

    In half precision BERT and DistilBERT take our own forward pass, and the head stays in fp32: a bf16 number between 4 and
    8 is a multiple of 1/32, and scores near 5 must not be rounded to that.
    """

    def __init__(self, model: PreTrainedModel, choice: EngineChoice) -> None:
        self.choice = choice
        self._transfer = Transfer() if choice.device == "cuda" else None
        self.depth = DEPTH if self._transfer else 1
        self._names = ["input_ids", "token_type_ids"][: 2 if takes_segments(model) else 1]
        exact = exact_forward(model, ExactForward) if choice.precision != "fp32" else None
        self._logit_is_column = exact is None
        module: torch.nn.Module = model if exact is None else exact
        self._model = module.to(device=choice.device, dtype=DTYPES[choice.precision]).eval()
        if exact is not None:
            exact.head.float()
        elif choice.precision != "fp32":
            head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
            head.float().register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))
        if self._transfer:  # what is compared with the packed engine runs beside it, not behind all that it has in flight
            self._stream = torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())

    def stage(self, batch: Batch | PackedBatch) -> list[torch.Tensor] | OnDevice:
        """Send a batch of (pairs, tokens) to the device."""
        assert isinstance(batch, Batch), "bug: this engine takes rectangles"
        arrays = [batch.input_ids, batch.token_type_ids][: len(self._names)]
        if self._transfer:
            return self._transfer.bring(*arrays)
        return [torch.from_numpy(array).to(self.choice.device) for array in arrays]

    @torch.inference_mode()
    def submit(self, batch: list[torch.Tensor] | OnDevice) -> Callable[[], np.ndarray]:
        """Start one batch. On CUDA nothing here waits for the device; elsewhere the scores are there."""
        if not isinstance(batch, OnDevice):
            scores = self._score(batch).cpu().numpy()
            return lambda: scores
        assert self._transfer, "bug: a batch on the device of an engine without one"
        with torch.cuda.stream(self._stream):
            batch.ready.wait()
            return self._transfer.fetch(self._score(batch.tensors), batch)

    def _score(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        scores = self._model(**dict(zip(self._names, tensors, strict=True)))
        return (scores.logits[:, 0] if self._logit_is_column else scores).float()
