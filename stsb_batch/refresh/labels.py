"""Labels to learn from: read, split into train, val and test, with what was left out and what contradicts itself."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from stsb_batch.errors import BadDataError
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.label_files import SPLITS, LabelledParts, read_labelled
from stsb_batch.refresh.splits import HELD_OUT, Conflicts, count_leaked, find_conflicts, halve, split_by_groups

PAIR = ("left", "right", "label")
MAX_CONTRADICTING = 0.05  # share of the pairs that may be there twice with labels more than a step apart


@dataclass(frozen=True)
class Labels:
    """Labelled pairs by split: frames with `left`, `right` (String) and `label` (Float32, 0 to 5).

    `slices` names the part that each test pair belongs to, where a column says so; `left_out` counts unusable rows by fault.
    """

    train: pl.DataFrame
    val: pl.DataFrame
    test: pl.DataFrame
    slices: pl.Series | None = None
    left_out: dict[str, int] = field(default_factory=dict)

    def items(self) -> list[tuple[str, pl.DataFrame]]:
        return [(name, getattr(self, name)) for name in SPLITS]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all pairs, labels and splits, in order."""
        digest = hashlib.sha256()
        for name, frame in self.items():
            digest.update(f"{name}:{frame.height}\n".encode())
            digest.update("\n".join(map(repr, frame.rows())).encode())
        return digest.hexdigest()

    @cached_property
    def leaked(self) -> int:
        """Test pairs that are also in train or val, in either order."""
        return count_leaked(self.test, self.train, self.val)

    @cached_property
    def conflicts(self) -> Conflicts:
        """Pairs that are there more than once, in any split, with different labels."""
        return find_conflicts(pl.concat([self.train, self.val, self.test]))


def load_labels(reference: str, columns: Columns, *, slice_column: str | None = None, timeout: float = 10.0) -> Labels:
    """Load and split labelled pairs.

    `glue/stsb` comes from the hub. A folder holds `train.parquet`, `validation.parquet` (or `val`, `dev`) and perhaps
    `test.parquet`. A file has a column `split` with such names, or is cut 80 / 10 / 10, pairs that share a text on one
    side. Where there is no test split, validation is shuffled with seed 42 and halved into val and test, as in the
    reference recipe.

    Raises `BadDataError` for more bad rows than may be left out, a missing split, or a split of less than two pairs.
    """
    return split_labels(read_labelled(reference, columns, slice_column=slice_column, timeout=timeout), reference)


def split_labels(read: LabelledParts, reference: str) -> Labels:
    """Turn labelled parts as they were read into train, val and test."""
    frames = dict(read.frames)
    if set(frames) == {""}:
        frames = split_by_groups(frames[""])
        _check_groups(frames, reference)
    missing = {"train", "val"} - set(frames)
    if missing:
        raise BadDataError(
            f"{reference}: has no split {' and '.join(sorted(missing))} (found: {', '.join(sorted(frames))})."
        )
    if "test" not in frames:
        frames["val"], frames["test"] = halve(frames["val"])
    for name in SPLITS:
        if frames[name].height < 2:
            raise BadDataError(
                f"{reference}: split {name} has {frames[name].height} pairs; at least 2 are needed to measure anything."
            )
    slices = frames["test"]["slice"]
    pairs = [frames[name].select(PAIR) for name in SPLITS]
    return Labels(*pairs, slices=None if slices.null_count() else slices, left_out=read.left_out)


def _check_groups(frames: dict[str, pl.DataFrame], reference: str) -> None:
    """Refuse labels that hang together through shared texts so much that nothing can be held out."""
    total = sum(frame.height for frame in frames.values())
    wanted = int(total * HELD_OUT)
    if wanted >= 2 and min(frames["val"].height, frames["test"].height) < wanted / 2:
        raise BadDataError(
            f"{reference}: most of its {total} pairs hang together through shared texts, so that {HELD_OUT:.0%} cannot be "
            "held out without a leak. Add a column 'split' (train, val, test) that says what to hold out."
        )


def check_learnable(labels: Labels, reference: str) -> None:
    """Raise `BadDataError` where labels are all equal in a split or contradict each other too often."""
    for name, frame in labels.items():
        if frame["label"].n_unique() < 2:
            raise BadDataError(
                f"{reference}: all {frame.height} labels of split {name} are {frame['label'][0]:g}; there is nothing to "
                "learn or measure. Check the label column (--label)."
            )
    total = sum(frame.height for _, frame in labels.items())
    if labels.conflicts.contradicting > MAX_CONTRADICTING * total:
        raise BadDataError(
            f"{reference}: {labels.conflicts.contradicting} of {total} pairs are there again with a label more than 1 away, "
            f"above the limit of {MAX_CONTRADICTING:.0%}. Settle them: one label for each pair."
        )
