"""The torch engine: any Hugging Face sequence-classification architecture, on CPU, CUDA or MPS."""

import numpy as np
import torch

from stsb_batch.models.checkpoint import Checkpoint, load_model, takes_segments
from stsb_batch.scoring.batches import Batch
from stsb_batch.scoring.engines import EngineChoice
from stsb_batch.scoring.engines.forward import exact_forward

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """Run the model in the chosen precision: in fp32 as transformers does, which is what all else is compared with.

    In half precision BERT and DistilBERT take our own forward pass, and the head stays in fp32: a bf16 number between 4 and
    8 is a multiple of 1/32, and scores near 5 must not be rounded to that.
    """

    def __init__(self, checkpoint: Checkpoint, choice: EngineChoice) -> None:
        self.choice = choice
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

    @torch.inference_mode()
    def score(self, batch: Batch) -> np.ndarray:
        """Score one batch: (pairs, tokens) in, (pairs,) float32 out."""
        inputs = {"input_ids": batch.input_ids}
        if self._takes_segments:
            inputs["token_type_ids"] = batch.token_type_ids
        tensors = {name: torch.from_numpy(array).to(self.choice.device) for name, array in inputs.items()}
        scores = self._model(**tensors)
        if self._logit_is_column:
            scores = scores.logits[:, 0]
        return scores.float().cpu().numpy()
