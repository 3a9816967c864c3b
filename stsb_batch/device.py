"""What this machine can compute with. torch is imported only when its device is asked for."""

from pathlib import Path


def torch_device() -> str:
    """Return the device that torch should use: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_fast_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether the processor multiplies bf16 matrices faster than fp32.

    Intel needs AMX for it. AMD needs only AVX512-BF16, which is in Zen 4 and later (measured on Zen 5: a matrix product 4.4
    times fp32); on Intel without AMX that was slower than fp32.
    """
    facts = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return "amx_bf16" in facts or ("AuthenticAMD" in facts and "avx512_bf16" in facts)
