"""What the tests of the flows share: a temporary Prefect server, a plain engine, a champion."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

import flows  # noqa: F401 - its settings come before Prefect's
from stsb_batch.models.registry import promote
from stsb_batch.report.table import SCHEMA
from tests.models.test_registry import add


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


def make_champion(home: Path, bert: Path) -> None:
    """Make the small model the champion, with metrics of no rows, since nobody measured it."""
    version = add(home, bert)
    pl.DataFrame(schema=SCHEMA).write_parquet(version.path / "metrics.parquet")
    promote(home, version, "test")


def read(kind: str, **wanted) -> list:
    """Read all flow runs, task runs or artifacts from the server."""
    with get_client(sync_client=True) as client:
        return getattr(client, f"read_{kind}")(**wanted)
