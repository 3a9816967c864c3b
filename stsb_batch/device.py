"""What this machine can compute with. torch is imported only when somebody asks for its device."""

import platform
from pathlib import Path


def torch_device() -> str:
    """Return cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_amx() -> bool:
    """Say whether the processor multiplies bf16 matrices in tiles (Intel AMX); without it bf16 is slower than fp32."""
    if platform.system() != "Linux":
        return False
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and "amx_bf16" in flags.read_text()
