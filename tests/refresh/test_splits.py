"""Which labelled pairs belong together."""

import polars as pl
from datasets import Dataset

from stsb_batch.refresh.splits import count_leaked, find_conflicts, halve, pair_keys, split_by_groups
from tests.builders import make_pairs

PAIRS = pl.DataFrame(
    {"left": ["A ", "b", "c", "c", "e"], "right": ["b", "a", "d", "D", "f"], "label": [1.0, 1.5, 2.0, 4.0, 3.0]}
)


def test_a_pair_is_the_same_either_way_round():
    """Case, outer blanks and order of the sides do not count."""
    assert pair_keys(PAIRS).unique(maintain_order=True).rows() == [("a", "b"), ("c", "d"), ("e", "f")]
    assert count_leaked(PAIRS[1:3], PAIRS[:1], PAIRS[4:]) == 1


def test_conflicts_are_counted_by_their_distance():
    """Two rows of one pair differ by half a step of the scale, two of another by two steps."""
    found = find_conflicts(PAIRS)
    assert (found.different, found.contradicting) == (4, 2)


def test_groups_that_share_a_text_stay_together():
    """A chain of pairs, each sharing a text with the next, is on one side; all rows are there once."""
    chain = pl.DataFrame({"left": [f"t{n}" for n in range(30)], "right": [f"t{n + 1}" for n in range(30)], "label": 1.0})
    single = make_pairs(270).select(left=pl.format("{} {}", "sentence1", "id"), right=pl.format("{}: {}", "id", "sentence2"))
    parts = split_by_groups(pl.concat([chain, single.with_columns(label=pl.lit(2.0))]))
    assert {name: frame.height for name, frame in parts.items()} == {"train": 240, "val": 30, "test": 30}
    assert sorted(frame.filter(pl.col("label") == 1.0).height for frame in parts.values()) == [0, 0, 30]


def test_halves_are_shuffled_as_data_sets_are():
    """The order is that of `datasets` with seed 42; the first half is val."""
    val, test = halve(pl.DataFrame({"row": range(9)}))
    expected = list(Dataset.from_dict({"row": list(range(9))}).shuffle(seed=42)["row"])
    assert (val["row"].to_list(), test["row"].to_list()) == (expected[:4], expected[4:])
