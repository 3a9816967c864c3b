"""The torch engine: any Hugging Face sequence-classification architecture, on CPU, CUDA or MPS."""

from collections.abc import Callable

import numpy as np
import torch

from stsb_batch.models.checkpoint import takes_segments
from stsb_batch.scoring.batches import Batch
from stsb_batch.scoring.engines import EngineChoice
from stsb_batch.scoring.engines.cuda import DEPTH, Transfer
from stsb_batch.scoring.engines.forward import DTYPES, exact_forward


class TorchEngine:
    """Run the model in the chosen precision: in fp32 as transformers does, which is what all else is compared with.

    In half precision BERT and DistilBERT take our own forward pass, and the head stays in fp32: a bf16 number between 4 and
    8 is a multiple of 1/32, and scores near 5 must not be rounded to that.
    """

    packs = False

    def __init__(self, model, choice: EngineChoice) -> None:
        self.choice = choice
        self.depth, self._transfer = (DEPTH, Transfer()) if choice.device == "cuda" else (1, None)
        self._takes_segments = takes_segments(model)
        exact = exact_forward(model) if choice.precision != "fp32" else None
        self._logit_is_column = exact is None
        self._model = (exact or model).to(device=choice.device, dtype=DTYPES[choice.precision]).eval()
        if exact is not None:
            exact.head.float()
        elif choice.precision != "fp32":
            head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
            head.float().register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))

    @torch.inference_mode()
    def submit(self, batch: Batch) -> Callable[[], np.ndarray]:
        """Start one batch of (pairs, tokens). On CUDA nothing here waits for the device; elsewhere the scores are there."""
        arrays = {"input_ids": batch.input_ids}
        if self._takes_segments:
            arrays["token_type_ids"] = batch.token_type_ids
        if self._transfer is not None:
            return self._transfer.fetch(self._score({name: self._transfer.bring(array) for name, array in arrays.items()}))
        inputs = {name: torch.from_numpy(array).to(self.choice.device) for name, array in arrays.items()}
        scores = self._score(inputs).cpu().numpy()
        return lambda: scores

    def _score(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        scores = self._model(**inputs)
        return (scores.logits[:, 0] if self._logit_is_column else scores).float()
