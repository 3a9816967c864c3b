"""What the tests of the flows share: a temporary Prefect server, a plain engine, a champion."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

import flows  # noqa: F401 - its settings come before Prefect's
from tests.builders import make_champion


@pytest.fixture(scope="session")
def harness() -> Iterator[None]:
    """One temporary Prefect server for all flows that run in this process.

    Without heartbeats, for whose thread each run waits up to a second when it ends; and each client would read all
    certificate authorities for an address on loopback.
    """
    quick = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}
    with temporary_settings(quick), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def plain_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STSB_BATCH_ENGINE", "torch")
    monkeypatch.setenv("STSB_BATCH_PRECISION", "fp32")


@pytest.fixture
def champion(bert: Path, settings) -> None:
    make_champion(settings.home, bert)
