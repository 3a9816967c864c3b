"""Checkpoints: what is refused, and what the digest covers."""

import json
import shutil
from pathlib import Path

import pytest

from stsb_batch.errors import ModelIntegrityError, NothingToReadError
from stsb_batch.models.checkpoint import load_model, open_checkpoint


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "copy"))


def edit_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_digest_is_of_content_not_of_place(bert: Path, copy: Path):
    """Two folders with the same files have the same digest."""
    assert open_checkpoint(bert).digest == open_checkpoint(copy).digest


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_any_changed_file_changes_the_digest(copy: Path, name: str):
    """Weights, config and tokeniser all count."""
    before = open_checkpoint(copy).digest
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    assert open_checkpoint(copy).digest != before


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pkl"])
def test_pickled_weights_are_refused(copy: Path, suffix: str):
    """A file that could run code when loaded makes the folder unusable."""
    (copy / f"pytorch_model{suffix}").touch()
    with pytest.raises(ModelIntegrityError, match="safetensors only"):
        open_checkpoint(copy)


def test_custom_code_is_refused(copy: Path):
    """A config that asks for its own code (auto_map) is refused and nothing is run."""
    edit_config(copy, auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(ModelIntegrityError, match="auto_map"):
        open_checkpoint(copy)


def test_classifier_with_several_outputs_is_refused(copy: Path):
    """Only a regression model with one output has a score."""
    edit_config(copy, id2label={"0": "no", "1": "yes"})
    with pytest.raises(ModelIntegrityError, match="num_labels=1"):
        open_checkpoint(copy)


def test_truncated_weights_are_a_model_error(copy: Path):
    """Weights cut short end as a model error that names the folder."""
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelIntegrityError, match=str(copy)):
        load_model(open_checkpoint(copy))


def test_folder_without_model(tmp_path: Path):
    """A folder without config.json is no model."""
    with pytest.raises(NothingToReadError, match=r"config\.json is missing"):
        open_checkpoint(tmp_path)
