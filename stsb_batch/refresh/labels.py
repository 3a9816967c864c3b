"""Labels for training: read, split into train, val and test, with counts of unusable rows and contradicting labels."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from stsb_batch.errors import BadDataError
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.label_files import SPLITS, LabelledParts, read_labelled
from stsb_batch.refresh.splits import HELD_OUT_SHARE, Conflicts, count_leaked, find_conflicts, halve, split_by_groups

PAIR = ("left", "right", "label")
MAX_CONTRADICTING = 0.05  # share of the rows that may contradict another row (see `splits.find_conflicts`)


@dataclass(frozen=True)
class Labels:
    """Labelled pairs by split: frames with `left`, `right` (String) and `label` (Float32, 0 to 5).

    `slices` has the slice of each test pair, if a column gives it; `left_out` maps fault -> rows that cannot be used.
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
        """Pairs that occur more than once, in any split, with different labels."""
        return find_conflicts(pl.concat([self.train, self.val, self.test]))


def load_labels(reference: str, columns: Columns, *, slice_column: str | None = None, timeout: float = 10.0) -> Labels:
    """Load and split labelled pairs.

    `glue/stsb` comes from the hub. A folder has `train.parquet`, `validation.parquet` (or `val`, `dev`) and perhaps
    `test.parquet`. A file has a column `split` with such names, or is split 80 / 10 / 10 with pairs that share a text in
    the same split. Without a test split, validation is shuffled with seed 42 and halved into val and test, as in the
    reference recipe. `timeout` is for the hub's first answer, in seconds.

    Raises `BadDataError` for too many unusable rows, a missing split, or a split with fewer than two pairs.
    """
    return split_labels(read_labelled(reference, columns, slice_column=slice_column, timeout=timeout), reference)


def split_labels(read: LabelledParts, reference: str) -> Labels:
    """Turn labelled parts as they were read into train, val and test; raises `BadDataError` as `load_labels` does."""
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
    train, val, test = (frames[name].select(PAIR) for name in SPLITS)
    return Labels(train, val, test, slices=None if slices.null_count() else slices, left_out=read.left_out)


def _check_groups(frames: dict[str, pl.DataFrame], reference: str) -> None:
    """Raise `BadDataError` where shared texts connect so many pairs that val and test cannot be filled."""
    total = sum(frame.height for frame in frames.values())
    wanted = int(total * HELD_OUT_SHARE)
    if wanted >= 2 and min(frames["val"].height, frames["test"].height) < wanted / 2:
        raise BadDataError(
            f"{reference}: shared texts connect most of its {total} pairs, so that {HELD_OUT_SHARE:.0%} cannot be held out "
            "without a leak. Add a column 'split' (train, val, test) that says what to hold out."
        )


def check_learnable(labels: Labels, reference: str) -> None:
    """Raise `BadDataError` where all labels of a split are equal, or too many contradict each other."""
    for name, frame in labels.items():
        if frame["label"].n_unique() < 2:
            raise BadDataError(
                f"{reference}: all {frame.height} labels of split {name} are {frame['label'][0]:g}, so that nothing "
                "can be learned or measured. Check the label column (--label)."
            )
    total = sum(frame.height for _, frame in labels.items())
    if labels.conflicts.contradicting > MAX_CONTRADICTING * total:
        raise BadDataError(
            f"{reference}: {labels.conflicts.contradicting} of {total} pairs occur again with a label more than 1 away, "
            f"above the limit of {MAX_CONTRADICTING:.0%}. Give each pair one label."
        )
