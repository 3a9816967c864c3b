"""Score sentence pairs in a data warehouse with a cross-encoder the team tunes itself.

The public names are those in `__all__`. They load at their first use, so that `import stsb_batch` is quick.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stsb_batch.errors import (
    BadDataError,
    BadFileError,
    BusyError,
    CannotCreateError,
    ConfigError,
    DeviceLostError,
    GateRefused,
    ModelIntegrityError,
    NothingToReadError,
    PermissionDeniedError,
    StorageError,
    StsbBatchError,
    UnavailableError,
    UsageError,
)

if TYPE_CHECKING:
    from stsb_batch.api import Scorer, Scores, evaluate, refresh, score, verify

__version__ = "0.2.0"
__all__ = [
    "BadDataError",
    "BadFileError",
    "BusyError",
    "CannotCreateError",
    "ConfigError",
    "DeviceLostError",
    "GateRefused",
    "ModelIntegrityError",
    "NothingToReadError",
    "PermissionDeniedError",
    "Scorer",
    "Scores",
    "StorageError",
    "StsbBatchError",
    "UnavailableError",
    "UsageError",
    "evaluate",
    "refresh",
    "score",
    "verify",
]


def _public(name: str) -> Any:
    from stsb_batch import api

    return getattr(api, name)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _public(name)
    raise AttributeError(f"module 'stsb_batch' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `stsb_batch.refresh` the function: loading the subpackage of the same name would replace it."""

    @property
    def refresh(self) -> Any:
        return _public("refresh")

    @refresh.setter
    def refresh(self, subpackage: ModuleType) -> None:
        """Ignore the subpackage that the import system sets; `from stsb_batch.refresh.job import ...` does not need it."""


sys.modules[__name__].__class__ = _Package
