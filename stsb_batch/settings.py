"""Defaults that the environment may change (`STSB_BATCH_<NAME>`). Everything else is an argument."""

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from stsb_batch.errors import ConfigError


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
    return settings.model_copy(update={"home": settings.home.expanduser().resolve()})
