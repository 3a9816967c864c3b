"""The hub path, from a cache filled as the hub client fills it, and without any hub."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REVISION = "0123456789abcdef0123456789abcdef01234567"


def fill_cache(home: Path, repository: str, source: Path, kind: str = "models") -> None:
    """Lay a repository out as huggingface_hub caches it: refs/main names a revision, snapshots/<revision> has the files."""
    folder = home / "hub" / f"{kind}--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(REVISION)
    shutil.copytree(source, folder / "snapshots" / REVISION)


def run(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run code in a fresh process with its own hub cache; the endpoint is a closed port unless told otherwise."""
    unset = {"HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | unset | environment,
        check=False,
    )


SCORE = (
    "import sys; from stsb_batch.models.registry import resolve_model; from pathlib import Path\n"
    "print(resolve_model(Path(sys.argv[0] or '.'), 'team/model').digest)"
)


def test_cached_model_is_used_when_the_hub_is_away(bert: Path, tmp_path: Path):
    """A hub id is opened from the cache without a hub, with and without HF_HUB_OFFLINE."""
    fill_cache(tmp_path, "team/model", bert)
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        done = run(SCORE, tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.strip()) == 64


def test_cached_base_model_trains_from_the_hub_id(bert: Path, tmp_path: Path):
    """The base model of a refresh is found in the cache by its hub id and revision."""
    fill_cache(tmp_path, "distilbert-base-uncased", bert)
    code = "from stsb_batch.models.base import find_base_model as f; print(f('distilbert-base-uncased'))"
    assert run(code, tmp_path).stdout.strip().endswith(REVISION)
    pinned = code.replace("uncased'", f"uncased@{REVISION}'")
    assert run(pinned, tmp_path).stdout.strip().endswith(REVISION)


def test_glue_comes_from_the_cached_data_set(labels_folder: Path, tmp_path: Path):
    """`glue/stsb` is read from the cached repository, validation cut into the reference's halves."""
    source = tmp_path / "glue"
    (source / "stsb").mkdir(parents=True)
    for split in ("train", "validation"):
        shutil.copy(labels_folder / f"{split}.parquet", source / f"stsb/{split}-00000-of-00001.parquet")
    fill_cache(tmp_path / "cache", "nyu-mll/glue", source, kind="datasets")
    code = (
        "from stsb_batch.refresh.labels import load_labels\nfrom stsb_batch.pairs.schema import Columns\n"
        "print(*[frame.height for _, frame in load_labels('glue/stsb', Columns()).items()])"
    )
    done = run(code, tmp_path / "cache")
    assert done.stdout.split() == ["5749", "750", "750"], done.stderr


@pytest.mark.parametrize("verb", [["refresh"], ["evaluate", "glue/stsb", "--model", "team/model"]])
def test_hub_unreachable_is_69(verb: list[str], tmp_path: Path):
    """Without hub and cache a command ends with 69, with one line that names the offline way."""
    done = run(f"import sys; sys.argv = ['stsb-batch', *{verb!r}]; from stsb_batch.cli.main import main; main()", tmp_path)
    assert done.returncode == 69, done.stderr
    [line] = done.stderr.strip().splitlines()
    assert "hub cannot be reached" in line
    assert "Without a hub" in line
