"""The encoder that a refresh starts from: bundled, a folder, or refused with what to do."""

import shutil
from pathlib import Path

import pytest

from stsb_batch.errors import ModelIntegrityError, NothingToReadError
from stsb_batch.models.base import find_base_model


def test_minilm_is_bundled_and_checked():
    """The bundled encoder is a folder with safetensors weights, whose digest is the published one."""
    assert (find_base_model("minilm") / "model.safetensors").is_file()


def test_a_folder_is_taken_as_it_is(bert: Path, tmp_path: Path):
    """A folder needs a configuration and weights in safetensors; each is named where it is missing."""
    base = Path(shutil.copytree(bert, tmp_path / "base"))
    assert find_base_model(str(base)) == base.resolve()
    (base / "model.safetensors").unlink()
    with pytest.raises(ModelIntegrityError, match=r"model\.safetensors is missing"):
        find_base_model(str(base))
    (base / "config.json").unlink()
    with pytest.raises(NothingToReadError, match=r"config\.json is missing"):
        find_base_model(str(base))


@pytest.mark.parametrize("reference", ["./nowhere", "/nowhere", "~/nowhere"])
def test_a_path_is_no_hub_id(reference: str):
    """What looks like a path is not looked for on a hub."""
    with pytest.raises(NothingToReadError, match="no such folder"):
        find_base_model(reference)
