"""The torch engine: any Hugging Face sequence-classification architecture, on CPU, CUDA or MPS."""

from collections.abc import Callable

import numpy as np
import torch

from stsb_batch.models.checkpoint import Checkpoint, load_model, takes_segments
from stsb_batch.scoring.batches import Batch
from stsb_batch.scoring.engines import EngineChoice
from stsb_batch.scoring.engines.forward import exact_forward
from stsb_batch.scoring.engines.graphs import GraphedForward

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CUDA_DEPTH = 3  # one batch being scored, one queued behind it, one whose scores are on their way back


class TorchEngine:
    """Run the model in the chosen precision: in fp32 as transformers does, which is what all else is compared with.

    In half precision BERT and DistilBERT take our own forward pass, and the head stays in fp32: a bf16 number between 4 and
    8 is a multiple of 1/32, and scores near 5 must not be rounded to that. With fixed shapes CUDA replays it as graphs.
    """

    def __init__(self, checkpoint: Checkpoint, choice: EngineChoice, *, fixed_shapes: bool = False) -> None:
        self.choice = choice
        self.depth = CUDA_DEPTH if choice.device == "cuda" else 1
        self._copies = torch.cuda.Stream() if choice.device == "cuda" else None
        model = load_model(checkpoint)
        self._takes_segments = takes_segments(model)
        exact = exact_forward(model) if choice.precision != "fp32" else None
        self._logit_is_column = exact is None
        self._model = (exact or model).to(device=choice.device, dtype=DTYPES[choice.precision]).eval()
        if exact is not None:
            exact.head.float()
        elif choice.precision != "fp32":
            head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
            head.float().register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))
        if exact is not None and fixed_shapes and choice.device == "cuda":
            self._model = GraphedForward(self._model)

    @torch.inference_mode()
    def submit(self, batch: Batch) -> Callable[[], np.ndarray]:
        """Start one batch of (pairs, tokens). On CUDA nothing here waits for the device; elsewhere the scores are there."""
        inputs = {"input_ids": torch.from_numpy(batch.input_ids)}
        if self._takes_segments:
            inputs["token_type_ids"] = torch.from_numpy(batch.token_type_ids)
        if self._copies is not None:
            return self._submit_cuda(inputs)
        scores = self._forward({name: tensor.to(self.choice.device) for name, tensor in inputs.items()}).cpu().numpy()
        return lambda: scores

    def _submit_cuda(self, inputs: dict[str, torch.Tensor]) -> Callable[[], np.ndarray]:
        """Copy in on a stream of its own while earlier batches are scored; score; copy out; all through pinned memory."""
        compute = torch.cuda.current_stream()
        with torch.cuda.stream(self._copies):
            inputs = {name: tensor.pin_memory().to("cuda", non_blocking=True) for name, tensor in inputs.items()}
        compute.wait_stream(self._copies)
        for tensor in inputs.values():
            tensor.record_stream(compute)
        scores = self._forward(inputs)
        host = torch.empty(scores.shape, pin_memory=True)
        host.copy_(scores, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def collect() -> np.ndarray:
            done.synchronize()
            return host.numpy()

        return collect

    def _forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        scores = self._model(**inputs)
        return (scores.logits[:, 0] if self._logit_is_column else scores).float()
