"""Settings from the environment, and where Prefect's files are."""

from pathlib import Path

import pytest

from stsb_batch.errors import ConfigError
from stsb_batch.settings import Settings, load_settings, prefect_environment


def test_wrong_variables_are_named_all_at_once(monkeypatch: pytest.MonkeyPatch):
    """Each with its value and what is wrong; an empty one counts as unset."""
    monkeypatch.setenv("STSB_BATCH_MAX_TOKENS", "3")
    monkeypatch.setenv("STSB_BATCH_STALL_SECONDS", "soon")
    monkeypatch.setenv("STSB_BATCH_MAX_LENGTH", "")
    with pytest.raises(ConfigError, match=r"STSB_BATCH_MAX_TOKENS='3'.*STSB_BATCH_STALL_SECONDS='soon'") as error:
        load_settings()
    assert "MAX_LENGTH" not in str(error.value)


def test_the_home_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A relative home means the same folder for a child that starts elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STSB_BATCH_HOME", "here")
    assert load_settings().home == tmp_path / "here"


def test_prefect_s_files_are_in_the_home_unless_they_have_a_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """PREFECT_HOME wins where it is set."""
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    assert prefect_environment(tmp_path)["PREFECT_HOME"] == str(tmp_path / "prefect")
    monkeypatch.setenv("PREFECT_HOME", "elsewhere")
    assert "PREFECT_HOME" not in prefect_environment(tmp_path)


def test_every_setting_is_described():
    """The page of settings is made of these words."""
    assert all(field.description for field in Settings.model_fields.values())
