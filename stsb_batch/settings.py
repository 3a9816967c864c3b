"""Defaults that the environment may change (`STSB_BATCH_<NAME>`), and where Prefect's own files lie."""

import errno
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from stsb_batch.errors import CannotCreateError, ConfigError, PermissionDeniedError, StsbBatchError, storage_error


class Settings(BaseSettings):
    """Where models and reports live, and how scoring is sized."""

    model_config = SettingsConfigDict(env_prefix="STSB_BATCH_", env_ignore_empty=True, frozen=True)

    home: Path = Field(Path("~/.stsb-batch"), description="folder of the model registry, report history and caches")
    engine: str = Field("auto", description="auto, torch or openvino")
    precision: str = Field("auto", description="auto, fp32, bf16, fp16 or int8")
    max_tokens: int | None = Field(
        None, ge=16, description="tokens in one batch, the dial for speed and memory; unset: 4096 on a CPU, 65536 on CUDA"
    )
    fixed_shapes: bool = Field(False, description="fill batches up: the same bits whatever shares a batch, on any engine")
    max_length: int = Field(512, ge=8, description="tokens of one pair; longer pairs are cut, never above the model's limit")
    shard_rows: int = Field(1_000_000, ge=1, description="rows after which a file is cut into a further shard")
    stall_seconds: float = Field(300.0, gt=0, description="seconds without progress after which a run ends with 75")
    hub_timeout: float = Field(10.0, gt=0, le=30, description="seconds to wait for the model hub's first answer")


def load_settings() -> Settings:
    """Read the settings from the environment; raises `ConfigError` naming each variable that is wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = "; ".join(f"STSB_BATCH_{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"Settings are wrong: {wrong}. Correct or unset the variable.") from None
    try:
        return settings.model_copy(update={"home": settings.home.expanduser().resolve()})
    except RuntimeError:
        raise ConfigError(f"{settings.home}: this user has no home folder. Set STSB_BATCH_HOME to a folder.") from None


def prefect_environment(home: Path) -> dict[str, str]:
    """Return what Prefect's environment lacks so that its files lie in `home`; nothing where PREFECT_HOME is set.

    The profiles that a person made with `prefect config` stay in force, since they may name the server.
    """
    ours = {}
    usual = os.path.expanduser("~/.prefect")  # noqa: PTH111 - leaves ~ in place for a user without a home folder
    if usual.startswith("~"):
        ours["HOME"] = str(home)  # Prefect does not start without one
    if os.environ.get("PREFECT_HOME"):
        return ours
    ours["PREFECT_HOME"] = str(home / "prefect")
    if not os.environ.get("PREFECT_PROFILES_PATH") and os.access(f"{usual}/profiles.toml", os.R_OK):
        ours["PREFECT_PROFILES_PATH"] = f"{usual}/profiles.toml"
    return ours


def check_prefect_home(home: Path) -> None:
    """Try to write to Prefect's home and its database; raises an error that names them when that fails.

    A server that cannot would not say so: those who wait for it give up after minutes.
    """
    database = home / "prefect.db"
    try:
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
        for file in home.glob("prefect.db*"):
            file.open("r+b").close()
        if database.exists():
            with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=60)) as opened:
                opened.execute("begin immediate")
    except OSError as error:
        raise _unwritable(home, error) from error
    except sqlite3.Error as error:
        raise CannotCreateError(
            f"{database}: Prefect's database cannot be written to ({error}). Check its owner and mode, or move it away: it "
            "holds the schedule and the history of runs, no scores and no models."
        ) from error


def _unwritable(home: Path, error: OSError) -> StsbBatchError:
    found = f"{home}: Prefect's files cannot be written there"
    remedy = "Set PREFECT_HOME, or STSB_BATCH_HOME, to a folder that this user can write to."
    if isinstance(error, PermissionError):
        return PermissionDeniedError(f"{found}: no permission. {remedy}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return storage_error(error, "opening Prefect's home", home)
    return ConfigError(f"{found}: {error.strerror}. {remedy}")
