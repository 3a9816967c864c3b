"""One driver and one learnt case for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stsb_batch.inference.engines import OPENERS
from tests.fakes import FakeEngine
from tests.reliability.harness import Case, Driver, lay_out


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = Driver(tmp_path_factory.mktemp("driver"))
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def case(driver: Driver, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("case")
    return Case(driver, lay_out(folder / "in"), bert).learn(folder / "out")


@pytest.fixture
def quick_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score with `FakeEngine` in this process."""
    for name in OPENERS:
        monkeypatch.setitem(OPENERS, name, lambda *_: FakeEngine())
    monkeypatch.setenv("STSB_BATCH_ENGINE", "openvino")
    monkeypatch.setenv("STSB_BATCH_PRECISION", "fp32")
