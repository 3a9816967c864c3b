"""One driver and one learnt case for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
