"""Labelled pairs: read them from Parquet or from GLUE, check them, split them, say where splits leak into each other."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.errors import BadDataError, NothingToReadError
from stsb_batch.models.hub import fetch_snapshot
from stsb_batch.pairs.schema import LABEL_RANGE, Columns

SPLITS = ("train", "val", "test")
GLUE = "glue/stsb"
GLUE_REPOSITORY = "nyu-mll/glue"
OFFLINE = "Without a hub, name labelled Parquet with --labels (columns sentence1, sentence2, label)."
SEED = 42
SPLIT_NAMES = {"validation": "val", "dev": "val", "valid": "val"}


@dataclass(frozen=True)
class Labels:
    """Labelled pairs by split: frames with `left`, `right` (String) and `label` (Float32, 0 to 5)."""

    train: pl.DataFrame
    val: pl.DataFrame
    test: pl.DataFrame

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

    @property
    def leaked(self) -> int:
        """Test pairs that are also in train or val, in either order."""
        seen = {pair for frame in (self.train, self.val) for pair in _unordered(frame)}
        return sum(pair in seen for pair in _unordered(self.test))


def _unordered(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return [(left, right) if left <= right else (right, left) for left, right, _ in frame.rows()]


def load_labels(reference: str, columns: Columns, *, timeout: float = 10.0) -> Labels:
    """Load and split labelled pairs.

    `glue/stsb` comes from the hub. A folder holds `train.parquet`, `validation.parquet` (or `val`, `dev`) and perhaps
    `test.parquet`. A file has a column `split` with such names, or is cut 80 / 10 / 10 by a fixed seed. Where there is
    no test split, validation is shuffled with seed 42 and halved into val and test, as in the reference recipe.

    Raises `BadDataError` for labels that are null or outside 0-5 and for null texts, with their number and first row.
    """
    checked = read_labelled(reference, columns, timeout=timeout)
    if set(checked) == {""}:
        return _split_by_seed(checked[""])
    missing = {"train", "val"} - set(checked)
    if missing:
        raise BadDataError(
            f"{reference}: has no split {' and '.join(sorted(missing))} (found: {', '.join(sorted(checked))})."
        )
    if "test" not in checked:
        shuffled = _shuffled(checked["val"])
        half = shuffled.height // 2
        checked["val"], checked["test"] = shuffled[:half], shuffled[half:]
    labels = Labels(checked["train"], checked["val"], checked["test"])
    return _none_empty(labels, reference)


def read_labelled(reference: str, columns: Columns, *, timeout: float = 10.0) -> dict[str, pl.DataFrame]:
    """Read and check labelled pairs as they lie there: split name -> frame; the name is "" where nothing says the split."""
    return {name: _checked(frame, where, columns) for name, (frame, where) in _read(reference, timeout).items()}


def _none_empty(labels: Labels, reference: str) -> Labels:
    for name, frame in labels.items():
        if frame.height < 2:
            raise BadDataError(
                f"{reference}: split {name} has {frame.height} pairs; at least 2 are needed to measure anything."
            )
    return labels


def _shuffled(frame: pl.DataFrame) -> pl.DataFrame:
    """Shuffle exactly as `datasets.Dataset.shuffle(seed=42)` does, so that the halves are those of the reference."""
    from datasets import Dataset

    positions = Dataset.from_dict({"row": list(range(frame.height))}).shuffle(seed=SEED)["row"]
    return frame[list(positions)]


def _split_by_seed(frame: pl.DataFrame) -> Labels:
    shuffled, tenth = _shuffled(frame), frame.height // 10
    return _none_empty(Labels(shuffled[2 * tenth :], shuffled[:tenth], shuffled[tenth : 2 * tenth]), "labels")


def _read(reference: str, timeout: float) -> dict[str, tuple[pl.DataFrame, str]]:
    """Return split name -> (frame as read, what to call it in a message); the name is "" where nothing says the split."""
    path = Path(reference)
    if reference == GLUE:
        return _read_glue(timeout)
    if path.is_dir():
        files = sorted(file for file in path.glob("*.parquet") if not file.name.startswith(("_", ".")))
        if not files:
            raise NothingToReadError(f"{reference}: holds no .parquet file. Check the path of the labels.")
        return {SPLIT_NAMES.get(file.stem, file.stem): (_read_parquet(file), file.name) for file in files}
    if not path.is_file():
        raise NothingToReadError(f"{reference}: no such labels. Name a Parquet file, a folder, or {GLUE}.")
    frame = _read_parquet(path)
    if "split" not in frame.columns:
        return {"": (frame, path.name)}
    keys = frame["split"].cast(pl.String).replace(SPLIT_NAMES)
    return {name: (frame.filter(keys == name), f"{path.name} split {name}") for name in keys.drop_nulls().unique().to_list()}


def _read_glue(timeout: float) -> dict[str, tuple[pl.DataFrame, str]]:
    from datasets import Dataset

    folder = fetch_snapshot(
        GLUE_REPOSITORY, revision=None, patterns=["stsb/*.parquet"], kind="dataset", timeout=timeout, offline=OFFLINE
    )
    parts = {}
    for split, name in (("train", "train"), ("validation", "val")):  # GLUE keeps the labels of its test split to itself
        files = sorted(str(file) for file in (folder / "stsb").glob(f"{split}-*.parquet"))
        if not files:
            raise BadDataError(f"{GLUE_REPOSITORY}: its folder stsb has no {split} split. {OFFLINE}")
        parts[name] = (Dataset.from_parquet(files).to_polars(), f"{GLUE} {split}")
    return parts


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, memory_map=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadDataError(f"{path.name}: not a readable Parquet file ({str(error).splitlines()[0][:200]}).") from error


def _checked(frame: pl.DataFrame, where: str, columns: Columns) -> pl.DataFrame:
    label = columns.label or "label"
    for name, option in ((columns.left, "--left"), (columns.right, "--right"), (label, "--label")):
        if name not in frame.columns:
            raise BadDataError(
                f"{where}: has no column '{name}' (found: {', '.join(frame.columns)}). Name it with {option}."
            )
    if not frame.schema[label].is_numeric():
        raise BadDataError(f"{where}: label column '{label}' is {frame.schema[label]}, not a number.")
    chosen = frame.select(
        pl.col(columns.left).cast(pl.String).alias("left"),
        pl.col(columns.right).cast(pl.String).alias("right"),
        pl.col(label).cast(pl.Float32).alias("label"),
    )
    low, high = LABEL_RANGE
    faults = {
        f"null or NaN in '{label}'": chosen["label"].is_null() | chosen["label"].is_nan(),
        f"labels outside {low:g}-{high:g}": ~chosen["label"].is_between(low, high) & chosen["label"].is_not_nan(),
        "null texts": chosen["left"].is_null() | chosen["right"].is_null(),
    }
    found = []
    for fault, rows in faults.items():
        bad = np.flatnonzero(rows.fill_null(False).to_numpy())
        if len(bad):
            found.append(f"{len(bad)} {fault}, first in row {bad[0]}")
    if found:
        raise BadDataError(f"{where}: {'; '.join(found)}. Correct or remove these rows; training takes none of them.")
    return chosen
