"""The plain engine: any Hugging Face sequence-classification architecture, on CPU, CUDA or MPS."""

import numpy as np
import torch

from stsb_batch.models.checkpoint import Checkpoint, load_model, takes_segments
from stsb_batch.scoring.batches import Batch
from stsb_batch.scoring.engines import EngineChoice

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """Run the model as transformers does, in the chosen precision with the last linear layer in fp32.

    A bf16 number between 4 and 8 is a multiple of 1/32; the head in fp32 keeps scores near 5 from being rounded to that.
    """

    def __init__(self, checkpoint: Checkpoint, choice: EngineChoice) -> None:
        self.choice = choice
        self._model = load_model(checkpoint).to(device=choice.device, dtype=DTYPES[choice.precision]).eval()
        self._takes_segments = takes_segments(self._model)
        if choice.precision != "fp32":
            head = [module for module in self._model.modules() if isinstance(module, torch.nn.Linear)][-1]
            head.float().register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))

    @torch.inference_mode()
    def score(self, batch: Batch) -> np.ndarray:
        """Score one batch: (pairs, tokens) in, (pairs,) float32 out."""
        inputs = {"input_ids": batch.input_ids}
        if self._takes_segments:
            inputs["token_type_ids"] = batch.token_type_ids
        tensors = {name: torch.from_numpy(array).to(self.choice.device) for name, array in inputs.items()}
        return self._model(**tensors).logits[:, 0].float().cpu().numpy()
