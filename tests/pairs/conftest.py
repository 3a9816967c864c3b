"""What the tests of files share: one sandbox for all, and the way of a file through to its output."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stsb_batch.pairs.sandbox import Sandbox
from tests.pairs.odd_parquet import pass_through


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


@pytest.fixture
def passed(tmp_path: Path, sandbox: Sandbox) -> Callable[..., Path]:
    """Pass a file through and return the output."""

    def run(path: Path, bad: Callable[[int], np.ndarray] | None = None) -> Path:
        output = tmp_path / "scored.parquet"
        pass_through(path, output, sandbox, bad)
        return output

    return run
