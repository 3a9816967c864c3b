"""Create a small warehouse: the starter set as labelled pairs, and unlabelled pairs of its texts as last night's input.

The starter set (`starter.tsv`, described in STARTER.md) has columns kind, split, label, sentence1, sentence2.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl

PAIRS_PER_KIND = 800
SEED = 42
LONG_TEXT_WORDS = 2_000


@dataclass(frozen=True)
class Warehouse:
    """The paths of the demo's labels, input pairs, scores and registry."""

    labels: Path
    pairs: Path
    scores: Path
    home: Path


def starter_set() -> pl.DataFrame:
    """Return the starter set: kind, split (train, val, test), label (Float32), sentence1, sentence2."""
    with files(__package__).joinpath("starter.tsv").open("rb") as file:
        return pl.read_csv(file, separator="\t", quote_char=None, schema_overrides={"label": pl.Float32})


def create_warehouse(folder: Path) -> Warehouse:
    """Write labels and pairs below `folder`; existing files stay unchanged."""
    folder = folder.resolve()
    warehouse = Warehouse(folder / "labels.parquet", folder / "pairs", folder / "pairs.scored", folder / "home")
    starter = starter_set()
    _write_once(starter, warehouse.labels)
    for number, (kind, texts) in enumerate(sorted(_texts_by_kind(starter).items())):
        _write_once(_last_night(kind, texts, number), warehouse.pairs / f"kind={kind}" / "part-0000.parquet")
    return warehouse


def _write_once(frame: pl.DataFrame, path: Path) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.inprogress")
        frame.write_parquet(staged)
        staged.rename(path)


def _texts_by_kind(starter: pl.DataFrame) -> dict[str, list[str]]:
    kinds = starter.unpivot(["sentence1", "sentence2"], index="kind").unique(["kind", "value"]).sort("kind", "value")
    return {kind: frame["value"].to_list() for (kind,), frame in kinds.group_by("kind")}


def _last_night(kind: str, texts: list[str], number: int) -> pl.DataFrame:
    """Pair the texts of a kind as a matching job would: half of the pairs share a rare word, the others are random.

    A few rows have the faults of real tables: nulls, empty and blank texts, and one text of 2,000 words.
    """
    rng = np.random.default_rng(SEED + number)
    by_word: dict[str, list[int]] = {}
    for position, text in enumerate(texts):
        for word in sorted(
            {word for word in text.lower().split() if len(word) > 3}
        ):  # the order of a set differs by process
            by_word.setdefault(word, []).append(position)
    shared = [rows for rows in by_word.values() if 2 <= len(rows) <= 12]
    left, right = [], []
    for row in range(PAIRS_PER_KIND):
        choice = shared[rng.integers(len(shared))] if shared and row % 2 else range(len(texts))
        a, b = rng.choice(len(choice), size=2, replace=False)
        left.append(texts[choice[a]])
        right.append(texts[choice[b]])
    left[17], right[101], left[230], right[333] = None, None, "", "   "
    if number == 0:
        words = " ".join(texts).split()
        left[444] = " ".join(words[place % len(words)] for place in range(LONG_TEXT_WORDS))
    return pl.DataFrame(
        {
            "pair_id": [f"{kind}-{row:05d}" for row in range(PAIRS_PER_KIND)],
            "sentence1": left,
            "sentence2": right,
            "block": rng.integers(0, 50, PAIRS_PER_KIND).astype(np.int32),
        }
    )
