"""Find equal pairs and split labelled pairs: leaks, conflicts, splits in which no text is on two sides. Pure.

Frames have `left`, `right` (String) and `label`. Texts are compared without case and surrounding blanks; a pair equals the
same pair with its sides swapped.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl

SEED = 42
HELD_OUT_SHARE = 0.1  # of the pairs, for val, and as much again for test
MAX_LABEL_GAP = 1.0  # labels of the same pair that are further apart contradict each other


@dataclass(frozen=True)
class Conflicts:
    """Rows whose pair occurs with different labels, and those of them whose labels are more than `MAX_LABEL_GAP` apart."""

    different: int
    contradicting: int


def pair_keys(frame: pl.DataFrame) -> pl.DataFrame:
    """Return each pair as `a`, `b` in alphabetical order, so that swapped sides give the same key."""
    sides = [pl.col(side).str.strip_chars().str.to_lowercase() for side in ("left", "right")]
    return frame.select(a=pl.min_horizontal(*sides), b=pl.max_horizontal(*sides))


def count_leaked(held_out: pl.DataFrame, *seen: pl.DataFrame) -> int:
    """Count the held-out pairs that are also among the seen ones, in either order."""
    known = pair_keys(pl.concat(seen)).unique()
    return pair_keys(held_out).join(known, on=["a", "b"], how="semi").height


def find_conflicts(frame: pl.DataFrame) -> Conflicts:
    """Count the rows whose pair occurs again, in either order, with another label."""
    spread = pl.col("label").max() - pl.col("label").min()
    again = pair_keys(frame).with_columns(frame["label"]).group_by("a", "b").agg(spread=spread, rows=pl.len())
    rows = [int(again.filter(pl.col("spread") > limit)["rows"].sum()) for limit in (0.0, MAX_LABEL_GAP)]
    return Conflicts(*rows)


def split_by_groups(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Split labelled pairs into train, val and test (80 / 10 / 10); pairs that share a text, directly or through other
    pairs, form a group and go to the same split.

    Groups are ordered by a seeded hash of their texts, not by position, so that most pairs keep their split when labels are
    added. A group that is larger than the remaining capacity of val and test goes to train.
    """
    keys = pair_keys(frame)
    group = _text_groups(keys)
    sizes = np.bincount(group)
    place = np.full(len(sizes), np.iinfo(np.uint64).max, np.uint64)
    for column in ("a", "b"):
        np.minimum.at(place, group, _hashes(keys[column]))
    capacity = {name: int(frame.height * HELD_OUT_SHARE) for name in ("val", "test")}
    side = np.full(len(sizes), "train", dtype="<U5")
    for number in np.argsort(place, kind="stable"):
        for name, left in capacity.items():
            if sizes[number] <= left:
                side[number] = name
                capacity[name] -= sizes[number]
                break
    rows = side[group]
    return {name: frame.filter(pl.Series(rows == name)) for name in ("train", "val", "test")}


def _text_groups(keys: pl.DataFrame) -> np.ndarray:
    """Number the connected components of pairs (edges) over texts (nodes): (pairs,) int."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    texts = pl.concat([keys["a"], keys["b"]]).rank("dense").to_numpy().astype(np.int64) - 1
    left, right = texts[: keys.height], texts[keys.height :]
    size = int(texts.max(initial=-1)) + 1
    component = connected_components(coo_array((np.ones(len(left)), (left, right)), shape=(size, size)), directed=False)[1]
    return np.unique(component[left], return_inverse=True)[1]


def _hashes(texts: pl.Series) -> np.ndarray:
    digests = (hashlib.blake2b(f"{SEED}:{text}".encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), np.uint64)


def halve(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Shuffle as `datasets.Dataset.shuffle(seed=42)` does and cut in two halves, as the reference does for val and test."""
    from datasets import Dataset

    order = Dataset.from_dict({"row": list(range(frame.height))}).shuffle(seed=SEED)["row"]
    shuffled = frame[list(order)]
    return shuffled[: frame.height // 2], shuffled[frame.height // 2 :]
