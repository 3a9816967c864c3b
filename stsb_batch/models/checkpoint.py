"""A checkpoint on disk: a standard transformers folder with safetensors weights. Check it, digest it, load it, save it.

No code from a checkpoint is ever executed: no pickled weights, no `trust_remote_code`.
"""

import hashlib
import inspect
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stsb_batch.durable import file_sha256
from stsb_batch.errors import ModelIntegrityError, NothingToReadError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

WEIGHTS = "model.safetensors"
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder that passed the checks.

    `digest` is the SHA-256 over weights, config and tokeniser files, `max_length` the longest input in tokens.
    """

    path: Path
    name: str
    digest: str
    max_length: int


def open_checkpoint(path: Path, name: str | None = None) -> Checkpoint:
    """Check a folder and compute its digest; `name` is what reports call the model (default: the folder's name).

    Raises `NothingToReadError` where there is no checkpoint, and `ModelIntegrityError` for one that is unsafe (pickled
    weights, custom code), unreadable, or not a regression model with one output.
    """
    if not (path / "config.json").is_file():
        raise NothingToReadError(f"{path}: no model there (config.json is missing). Check the path or the reference.")
    config = _read_config(path)
    if len(config.get("id2label", ("LABEL_0", "LABEL_1"))) != 1:
        raise ModelIntegrityError(f"{path}: the model does not have exactly one output. Fine-tune it with num_labels=1.")
    digest = hashlib.sha256()
    for file, sha256 in sorted(file_digests(path).items()):
        digest.update(f"{file}\0{sha256}\n".encode())
    limit = config.get("max_position_embeddings", 512)
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
        limit -= 2  # positions start after the padding index
    return Checkpoint(path=path, name=name or path.name, digest=digest.hexdigest(), max_length=limit)


def _read_config(path: Path) -> dict[str, Any]:
    unsafe = sorted(file.name for file in path.iterdir() if file.suffix in UNSAFE_SUFFIXES)
    if unsafe:
        raise ModelIntegrityError(
            f"{path}: contains {', '.join(unsafe)}, which can run code when loaded. Use safetensors only."
        )
    if not (path / WEIGHTS).is_file():
        raise ModelIntegrityError(f"{path}: {WEIGHTS} is missing. Save the model with safetensors weights in one file.")
    try:
        configs = [json.loads(f.read_text()) for f in (path / "config.json", path / "tokenizer_config.json") if f.is_file()]
    except ValueError as error:
        raise ModelIntegrityError(f"{path}: a config file is not JSON ({error}). Restore the model.") from None
    if any("auto_map" in config for config in configs):
        raise ModelIntegrityError(f"{path}: its config needs custom code (auto_map), which is never run. Use another model.")
    return configs[0]


def file_digests(path: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that determines scores: weights, config, tokeniser."""
    names = (WEIGHTS, "config.json", *TOKENIZER_FILES)
    return {name: file_sha256(path / name) for name in names if (path / name).is_file()}


def load_model(checkpoint: Checkpoint) -> "PreTrainedModel":
    """Load the sequence-classification model, fp32, in evaluation mode. Raises `ModelIntegrityError`."""
    from transformers import AutoModelForSequenceClassification

    return load_weights(AutoModelForSequenceClassification, checkpoint.path).eval()


def load_weights(auto_class: Any, path: Path, **options: Any) -> "PreTrainedModel":
    """Load a folder's weights, fp32, as a model of one of transformers' auto classes. Raises `ModelIntegrityError`."""
    try:
        with quiet_transformers():
            return auto_class.from_pretrained(
                path, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype="float32", **options
            )
    except Exception as error:  # safetensors and transformers raise many kinds for a damaged or foreign folder
        raise ModelIntegrityError(f"{path}: the model cannot be loaded ({first_line(error)}). Restore it.") from error


def load_tokenizer(path: Path) -> "PreTrainedTokenizerFast":
    """Load the reference tokeniser (transformers, fast) of a checkpoint or base-model folder.

    Raises `ModelIntegrityError` when it cannot be loaded or is not a fast one.
    """
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer: Any = AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, use_fast=True
            )
    except Exception as error:
        raise ModelIntegrityError(f"{path}: the tokeniser cannot be loaded ({first_line(error)}). Restore it.") from error
    if not tokenizer.is_fast:
        raise ModelIntegrityError(f"{path}: has no fast tokeniser. Convert it to tokenizer.json first.")
    return tokenizer


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' load reports, progress bars and warnings about its own code."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        # transformers 5.23 calls its own deprecated is_gradient_checkpointing; remove this once it no longer does
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def takes_segments(model: "PreTrainedModel") -> bool:
    """Say whether the architecture tells left from right by `token_type_ids` (BERT does, DistilBERT does not)."""
    return (
        "token_type_ids" in inspect.signature(model.forward).parameters and getattr(model.config, "type_vocab_size", 2) > 0
    )


def save_checkpoint(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", path: Path) -> None:
    """Write a standard checkpoint folder that transformers loads anywhere."""
    path.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(path, max_shard_size="1TB")
    tokenizer.save_pretrained(path)
