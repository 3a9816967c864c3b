"""Does a pair get the same score to the bit, whatever shares its batch? That depends on the processor, so it is measured.

With int8, OpenVINO's kernels for AVX2 add in another order when a batch has other rows; those for AVX-512 and AMX do not.
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa

from stsb_batch.inference.engines import EngineChoice
from stsb_batch.inference.pipeline import PairScorer

WORDS = ("red", "blue", "steel", "garden", "hose", "table", "lamp", "cable", "wood", "paper", "seven", "metres", "old")
PAIRS, WORD_COUNTS = 16, (1, 4, 9, 16)
PROBE = 2  # which pairs are scored; another number, and all verdicts are measured again
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")  # choose other kernels


def gives_same_bits(scorer: PairScorer) -> bool:
    """Score made-up pairs of four lengths all at once, one by one, and by sevens from the last; compare all bits.

    Each length has four pairs, so that a pair shares its batch with three, none, and one or two others.
    """
    sides = [pa.array([_text(row, words) for words in WORD_COUNTS for row in range(PAIRS // len(WORD_COUNTS))])] * 2
    found = []
    for size, order in ((PAIRS, np.arange(PAIRS)), (1, np.arange(PAIRS)), (7, np.arange(PAIRS)[::-1])):
        scores = np.empty(PAIRS, np.float32)
        for start in range(0, PAIRS, size):
            rows = order[start : start + size]
            scores[rows] = scorer.score(*(side.take(pa.array(rows)) for side in sides)).scores
        found.append(scores.view(np.int32))
    return all(np.array_equal(found[0], other) for other in found[1:])


def _text(row: int, words: int) -> str:
    return " ".join(WORDS[(3 * row + at) % len(WORDS)] for at in range(words))


def circumstances(digest: str, choice: EngineChoice, scorer: PairScorer) -> dict:
    """Return what a verdict holds for: the model, the engine and its version, its batches, the processor."""
    return {
        "probe": PROBE,
        "model": digest,
        "engine": str(choice),
        "version": version("openvino" if choice.engine == "openvino" else "torch"),
        "batches": [scorer.budget.tokens, scorer.budget.fixed_shapes],
        "processor": _processor(),
        "limits": {name: os.environ[name] for name in LIMITS if name in os.environ},
    }


def _processor() -> str:
    """Name the processor with its features where Linux lists them, elsewhere the machine's type."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", maxsplit=1)[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(line for line in lines if line.split("\t")[0] in ("model name", "flags", "Features", "CPU part"))
