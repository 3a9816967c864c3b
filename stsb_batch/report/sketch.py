"""Mergeable figures of scored rows: the merged sketches of two parts are the sketch of all their rows."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from stsb_batch.pairs.schema import STATUSES

LOW, HIGH, BIN = -1.0, 6.0, 0.001  # scores are counted in bins of a thousandth; the outer bins include what lies outside
BINS = round((HIGH - LOW) / BIN)
# share of unknown tokens above which a page warns that the model cannot read the texts; MiniLM's tokeniser has 0.0 % in
# 8,933 English pairs, 0 % in made-up German, French or Russian, 5 % in Korean, 10 % in Hindi, 65 % in Chinese, 100 % in Thai
UNKNOWN_LIMIT = 0.02
ADDITIVE = (
    *("rows", "distinct", "tokens", "seconds", "parity_sum", "parity_rows", "model_tokens", "filling", "fallback"),
    *("text_tokens", "unknown_tokens"),
)


@dataclass
class Sketch:
    """Row counts, score and length distributions, parity gaps and times of some scored rows. Can be written as JSON.

    `scores` maps bin -> rows, `lengths` tokens -> rows (both sparse), `statuses` status -> rows, `stages` stage -> seconds.
    `seconds` is the time from the first window to the last, `first_score` the time from the request to the first scored
    batch of any part. `distinct` pairs were scored by the model, in `model_tokens` tokens, of which `filling` were padding.
    `fallback` rows were tokenised without the chunk cache. `same_bits` says whether scores were independent of the other
    pairs in a batch, None where that was not checked. `text_tokens` are the tokens of scored rows without special tokens,
    `unknown_tokens` those of them that are not in the vocabulary; sketches of version 0.1.0 have 0 for both.
    """

    rows: int = 0
    distinct: int = 0
    tokens: int = 0
    seconds: float = 0.0
    first_score: float | None = None
    model_tokens: int = 0
    filling: int = 0
    fallback: int = 0
    text_tokens: int = 0
    unknown_tokens: int = 0
    parity_rows: int = 0
    parity_sum: float = 0.0
    parity_max: float = 0.0
    same_bits: bool | None = None
    statuses: dict[str, int] = field(default_factory=dict)
    scores: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)

    def merge(self, other: "Sketch") -> "Sketch":
        """Return the sketch of both parts' rows."""
        merged = Sketch(**{name: getattr(self, name) + getattr(other, name) for name in ADDITIVE})
        merged.parity_max = max(self.parity_max, other.parity_max)
        tried = [verdict for verdict in (self.same_bits, other.same_bits) if verdict is not None]
        merged.same_bits = all(tried) if tried else None
        merged.first_score = min((s for s in (self.first_score, other.first_score) if s is not None), default=None)
        for name in ("statuses", "scores", "lengths", "stages"):
            counts = dict(getattr(self, name))
            for key, count in getattr(other, name).items():
                counts[key] = counts.get(key, 0) + count
            setattr(merged, name, counts)
        return merged

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Sketch":
        """Return a sketch from its JSON; raises `ValueError` when that is damaged."""
        try:
            sketch = cls(**value)
            plain = [sketch.parity_max, *(getattr(sketch, name) for name in ADDITIVE), *sketch.stages.values()]
            counts = [*sketch.statuses.values(), *sketch.scores.values(), *sketch.lengths.values()]
            keys = [*sketch.scores, *sketch.lengths]
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a sketch ({error})") from None
        are_numbers = all(isinstance(number, int | float) for number in plain) and all(
            type(count) is int for count in counts
        )
        if (
            sketch.same_bits not in (None, True, False)
            or not are_numbers
            or not all(key.isascii() and key.isdigit() for key in keys)
        ):
            raise ValueError("not a sketch")
        return sketch

    @property
    def scored(self) -> int:
        return sum(count for status, count in self.statuses.items() if status.startswith("OK"))

    @property
    def unknown_token_rate(self) -> float:
        """The share of unknown tokens among the tokens of scored texts; NaN without any."""
        return self.unknown_tokens / self.text_tokens if self.text_tokens else float("nan")

    def score_quantiles(self, levels: list[float]) -> list[float]:
        """Return score quantiles, exact to half a thousandth between -1 and 6; NaN without scores."""
        bins, counts = _sorted(self.scores)
        if not len(bins):
            return [float("nan")] * len(levels)
        places = np.searchsorted(np.cumsum(counts), np.asarray(levels) * counts.sum(), side="left")
        return [LOW + (bins[min(place, len(bins) - 1)] + 0.5) * BIN for place in places]

    def score_histogram(self, width: float = 0.5) -> list[tuple[float, float, int]]:
        """Return (from, to, rows) over 0-5; rows beyond the scale are counted in the first and last bar."""
        bins, counts = _sorted(self.scores)
        bars = round(5 / width)
        place = np.clip(((LOW + (bins + 0.5) * BIN) / width).astype(int), 0, bars - 1)
        rows = np.bincount(place, weights=counts, minlength=bars) if len(bins) else np.zeros(bars)
        return [(bar * width, (bar + 1) * width, int(rows[bar])) for bar in range(bars)]

    def length_quantiles(self, levels: list[float]) -> list[float]:
        """Return quantiles of tokens per scored pair; NaN without any."""
        lengths, counts = _sorted(self.lengths)
        if not len(lengths):
            return [float("nan")] * len(levels)
        places = np.searchsorted(np.cumsum(counts), np.asarray(levels) * counts.sum(), side="left")
        return [float(lengths[min(place, len(lengths) - 1)]) for place in places]


def sketch_rows(
    scores: np.ndarray, statuses: np.ndarray, lengths: np.ndarray, *, distinct: int, gaps: np.ndarray, seconds: float = 0.0
) -> Sketch:
    """Sketch a window of rows.

    `scores`, `statuses` (codes) and `lengths` (tokens per pair) are (rows,); a row without a score has NaN. `gaps` are the
    differences from fp32 of the parity sample, (sample,).
    """
    scored = np.isfinite(scores)
    bins = np.clip(np.floor((scores[scored].astype(np.float64) - LOW) / BIN), 0, BINS - 1).astype(np.int64)
    return Sketch(
        rows=len(scores),
        distinct=distinct,
        tokens=int(lengths.sum()),
        seconds=seconds,
        parity_rows=len(gaps),
        parity_sum=float(gaps.sum()),
        parity_max=float(gaps.max(initial=0.0)),
        statuses={STATUSES[code]: count for code, count in _counted(statuses)},
        scores={str(key): count for key, count in _counted(bins)},
        lengths={str(key): count for key, count in _counted(lengths[scored])},
    )


def _counted(values: np.ndarray) -> list[tuple[int, int]]:
    keys, counts = np.unique(values, return_counts=True)
    return list(zip(keys.tolist(), counts.tolist(), strict=True))


def _sorted(counts: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    keys = np.array(sorted(map(int, counts)), np.int64)
    return keys, np.array([counts[str(key)] for key in keys.tolist()], np.int64)
