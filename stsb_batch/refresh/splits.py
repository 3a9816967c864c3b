"""Which labelled pairs belong together: the same pair in either order, groups that share a text, whole splits. Pure.

Frames have `left`, `right` (String) and `label`. Two texts count as the same when case and outer blanks are ignored.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl

SEED = 42
HELD_OUT = 0.1  # share of the pairs that goes to val, and again to test
STEP = 1.0  # labels of the same pair that are further apart contradict each other


@dataclass(frozen=True)
class Conflicts:
    """Pairs that occur with different labels: how many, and how many of those are more than a step of the scale apart."""

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
    """Count the rows whose pair is there again, in either order, with another label."""
    spread = pl.col("label").max() - pl.col("label").min()
    again = pair_keys(frame).with_columns(frame["label"]).group_by("a", "b").agg(spread=spread, rows=pl.len())
    rows = [int(again.filter(pl.col("spread") > limit)["rows"].sum()) for limit in (0.0, STEP)]
    return Conflicts(*rows)


def split_by_groups(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Cut labelled pairs into train, val and test (80 / 10 / 10); pairs that share a text, directly or through others, stay
    on one side.

    Groups are ordered by a seeded hash of their texts and not by their place, so that most pairs keep their side when the
    labels grow. A group that is larger than what is left of val and test goes to train.
    """
    keys = pair_keys(frame)
    group = _text_groups(keys)
    sizes = np.bincount(group)
    place = np.full(len(sizes), np.iinfo(np.uint64).max, np.uint64)
    for column in ("a", "b"):
        np.minimum.at(place, group, _hashes(keys[column]))
    room = {name: int(frame.height * HELD_OUT) for name in ("val", "test")}
    side = np.full(len(sizes), "train", dtype="<U5")
    for number in np.argsort(place, kind="stable"):
        for name, left in room.items():
            if sizes[number] <= left:
                side[number] = name
                room[name] -= sizes[number]
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
    """Shuffle exactly as `datasets.Dataset.shuffle(seed=42)` does and cut in two: the reference's val and test."""
    from datasets import Dataset

    order = Dataset.from_dict({"row": list(range(frame.height))}).shuffle(seed=SEED)["row"]
    shuffled = frame[list(order)]
    return shuffled[: frame.height // 2], shuffled[frame.height // 2 :]
