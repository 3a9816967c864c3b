"""Our own JSON files: written with a digest of their content, and checked when they are read.

`seal` has one way to write an object: if reading a file and sealing it again gives other bytes, the file is damaged.
Files without a digest were written by version 0.1.0.
"""

import json
from pathlib import Path
from typing import Any

from stsb_batch.durable import json_sha256
from stsb_batch.errors import ModelIntegrityError, escape_control, first_line, storage_error

FORMAT = 2
MARKS = ("format", "sha256")  # two, so that a flipped bit in one cannot make a sealed file look like one of 0.1.0


def seal(value: dict[str, Any]) -> bytes:
    """Return a JSON object with the digest of its content."""
    value = {"format": FORMAT, **value}
    return json.dumps(value | {"sha256": json_sha256(value)}, indent=1).encode()


def unseal(content: bytes) -> tuple[Any, bool]:
    """Parse JSON, and say whether it has a digest; raises `ValueError` when it is damaged."""
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({first_line(error)})") from None
    if not isinstance(found, dict) or not any(mark in found for mark in MARKS):
        return found, False
    value = {key: entry for key, entry in found.items() if key not in MARKS}
    if seal(value) != content:
        raise ValueError("its digest does not match, it was changed or damaged")
    return value, True


def read_sealed(path: Path, shape: Any, earlier: Any = None) -> tuple[Any, bool]:
    """Read a JSON file of the model registry, and say whether it has a digest.

    `shape` is what it has to look like (see `check_shape`), `earlier` the shape of a file without a digest, if another.
    Raises `FileNotFoundError`, `PermissionDeniedError`, and `ModelIntegrityError` when it is damaged.
    """
    try:
        found, checked = unseal(path.read_bytes())
        check_shape(found, shape if checked or earlier is None else earlier)
    except ValueError as error:
        raise ModelIntegrityError(f"{path}: {escape_control(error)}. Restore it from a backup.") from None
    except PermissionError as error:
        raise storage_error(error, "reading", path) from None
    return found, checked


def check_shape(value: Any, shape: Any, name: str = "") -> None:
    """Raise `ValueError`, naming the entry, when a JSON value does not have a shape.

    A shape is a type, a tuple of types, a list with the shape of every item, or an object with the shapes of the entries
    that must exist; others may. `{str: shape}` is an object with any keys.
    """
    place = name or "the content"
    if isinstance(shape, list):
        check_shape(value, list, name)
        for number, item in enumerate(value):
            check_shape(item, shape[0], f"{name}[{number}]")
    elif isinstance(shape, dict):
        check_shape(value, dict, name)
        for key, part in ({key: shape[str] for key in value} if str in shape else shape).items():
            if key not in value:
                raise ValueError(f"{name}.{key} is missing".lstrip("."))
            check_shape(value[key], part, f"{name}.{key}".lstrip("."))
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        raise ValueError(f"{place} is {json.dumps(value)[:40]}, which is not allowed there")
