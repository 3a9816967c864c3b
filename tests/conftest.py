"""Fixtures: a clean environment for each test, small checkpoints, pairs to score."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

for name in list(os.environ):  # the user's settings, before anything reads them
    if name.startswith(("STSB_BATCH_", "PREFECT_")) or name.lower().endswith("_proxy") or name in ("FORCE_COLOR", "COLUMNS"):
        del os.environ[name]
PREFECT_HOME = tempfile.TemporaryDirectory(prefix="stsb-batch-prefect-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = PREFECT_HOME.name  # before Prefect is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers that each wait for all cores cost more than they gain
os.environ["HF_HUB_OFFLINE"] = "1"  # before any Hugging Face import: no test may ask the network
os.environ["HF_DATASETS_OFFLINE"] = "1"
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: our kernels run on the CPU

from stsb_batch.settings import Settings, load_settings  # noqa: E402
from tests.builders import STSB, make_checkpoint, make_pairs  # noqa: E402
from tests.fakes import save_tiny, tiny_bert, tiny_distilbert  # noqa: E402


def pytest_unconfigure() -> None:
    """Remove Prefect's folder; a worker of pytest-xdist ends without the clean-up of the interpreter."""
    PREFECT_HOME.cleanup()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> "LoadFileScheduling":
    """Give each worker whole files, and all files that use the Prefect server to one worker.

    `--dist loadgroup` does nothing with pytest 9.2: pytest-xdist 3.8 sets a node id that is no longer read.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            uses_server = file.startswith("tests/flows/") and "harness" in (config.rootpath / file).read_text()
            return "server" if uses_server else file

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test its own home folder and none of the user's settings, and fp32: half precision depends on the processor,
    and random weights are far from fp32 in it.
    """
    for name in list(os.environ):
        if name.startswith("STSB_BATCH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STSB_BATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STSB_BATCH_PRECISION", "fp32")


@pytest.fixture
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tiny_bert, tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tiny_distilbert, tmp_path_factory.mktemp("models") / "tiny-distilbert")


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM under a head of fixed weights."""
    return make_checkpoint(tmp_path_factory.mktemp("models") / "minilm")


@pytest.fixture(scope="session")
def shallow_minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of MiniLM: the kernels of all six at a third of the time."""
    return make_checkpoint(tmp_path_factory.mktemp("models") / "shallow-minilm", layers=2)


@pytest.fixture(scope="session")
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of converted models for all tests that do not look at the conversion itself."""
    return tmp_path_factory.mktemp("conversions")


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """A Parquet file of 500 labelled pairs in five row groups."""
    path = tmp_path / "in.parquet"
    make_pairs(500).write_parquet(path, row_group_size=100)
    return path


@pytest.fixture(scope="session")
def labels_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real STS benchmark where it is at hand, generated pairs in the same shape otherwise."""
    if STSB.is_dir():
        return STSB
    folder = tmp_path_factory.mktemp("stsb")
    for name, rows, seed in (("train", 5749, 1), ("validation", 1500, 2)):
        make_pairs(rows, seed).rename({"id": "idx"}).write_parquet(folder / f"{name}.parquet")
    return folder
