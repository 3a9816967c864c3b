"""What this machine can compute with."""

from pathlib import Path

import pytest

from stsb_batch.device import has_fast_bf16
from stsb_batch.inference.engines import choose_engine


@pytest.mark.parametrize(
    ("facts", "fast"),
    [
        ("vendor_id : GenuineIntel\nflags : avx512_bf16 amx_bf16 amx_tile", True),
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16", False),
        ("vendor_id : AuthenticAMD\nflags : avx512f avx512_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx2", False),
        (None, False),
    ],
)
def test_bf16_where_the_processor_is_fast_in_it(facts: str | None, fast: bool, tmp_path: Path):
    """AMX on Intel, AVX512-BF16 on AMD; where the system says nothing of its processor, fp32."""
    if facts:
        (tmp_path / "cpuinfo").write_text(facts)
    assert has_fast_bf16(tmp_path / "cpuinfo") is fast
    assert choose_engine("openvino", fast_bf16=lambda: fast).precision == ("bf16" if fast else "fp32")
