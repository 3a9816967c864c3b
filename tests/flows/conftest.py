"""What the tests of the flows share: a temporary Prefect server, a plain engine, a champion."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

import flows  # noqa: F401 - its settings come before Prefect's
from tests.builders import make_champion


@pytest.fixture(scope="session")
def harness() -> Iterator[None]:
    """One temporary Prefect server for all flows that run in this process."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def plain_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STSB_BATCH_ENGINE", "torch")
    monkeypatch.setenv("STSB_BATCH_PRECISION", "fp32")


@pytest.fixture
def champion(bert: Path, settings) -> None:
    make_champion(settings.home, bert)
