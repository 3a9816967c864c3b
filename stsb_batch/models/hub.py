"""Fetch repositories from the model hub, or from its local cache when the hub cannot be reached."""

import os
from pathlib import Path

from stsb_batch.errors import NothingToReadError, UnavailableError, escape_control

MODEL_PATTERNS = ["config.json", "model.safetensors", "tokenizer*", "vocab*", "merges.txt", "*tokens*.json"]


def fetch_snapshot(
    repository: str, *, revision: str | None, patterns: list[str], kind: str = "model", timeout: float = 10.0, offline: str
) -> Path:
    """Return the local folder of a hub repository at a revision (None: its main branch), with the files of `patterns`.

    `timeout` is for the hub's first answer, in seconds. Raises `UnavailableError` when the hub does not answer and the cache
    has no copy (`offline` is the part of the message that says what works without a hub), and `NothingToReadError` when the
    hub has no such repository or revision.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    is_online = hub_answers(timeout)
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            repo_type=kind,
            allow_patterns=patterns,
            etag_timeout=timeout,
            local_files_only=not is_online,
        )
    except HFValidationError:
        raise NothingToReadError(
            f"{escape_control(repository)}: neither a folder nor a {kind} on the hub. Check the path."
        ) from None
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise NothingToReadError(
            f"{repository}: the hub has no such {kind} or revision, or requires a login. Check the name and the login."
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise UnavailableError(f"{repository}: the hub cannot be reached and the cache has no copy. {offline}") from error
    return Path(folder)


def hub_answers(timeout: float) -> bool:
    """Say whether the hub answers within `timeout` seconds; false without asking when HF_HUB_OFFLINE is set."""
    import httpx
    from huggingface_hub import constants

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=timeout)
    except httpx.HTTPError:
        return False
    return True
