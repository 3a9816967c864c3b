"""Token ids of many texts in one array."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RaggedIds:
    """Text i has `ids[offsets[i]:offsets[i + 1]]`, without special tokens: int32 and int64."""

    ids: np.ndarray
    offsets: np.ndarray


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return `starts[i], starts[i] + 1, ...`, `sizes[i]` numbers of each, as one array."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)


def gather(source: RaggedIds, texts: np.ndarray, bounds: np.ndarray) -> RaggedIds:
    """Join texts of `source`: text i of the result is `texts[bounds[i]:bounds[i + 1]]` one after the other."""
    starts = source.offsets[texts]
    sizes = source.offsets[texts + 1] - starts
    return RaggedIds(source.ids[ranges(starts, sizes)], np.concatenate([[0], np.cumsum(sizes)])[bounds])
