"""Find labelled pairs: Parquet files, folders of splits, GLUE. Knows files and splits; their rows are in `label_rows.py`."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.errors import BadDataError, NothingToReadError, escape_control
from stsb_batch.models.hub import fetch_snapshot
from stsb_batch.pairs.kinds import is_parquet
from stsb_batch.pairs.label_scale import doubt, map_labels
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import Columns
from stsb_batch.refresh.label_rows import decoded, read_rows, usable_rows

GLUE = "glue/stsb"
GLUE_REPOSITORY = "nyu-mll/glue"
OFFLINE = "Without a hub, name labelled Parquet with --labels (columns sentence1, sentence2, label)."
SPLITS = ("train", "val", "test")
OTHER_NAMES = {"training": "train", "testing": "test", "validation": "val", "valid": "val", "dev": "val"}
OTHER_NAMES |= {"development": "val", "eval": "val", "evaluation": "val"}
# one of several files of a split, perhaps with the hash that hubs add: train-00000-of-00002-1f0a9c1b2d3e4f56
NUMBERED = re.compile(r"(.+?)-(\d{5,})-of-(\d{5,})(-[0-9a-f]+)?", re.IGNORECASE)
HASHED = re.compile(r"(.+?)-[0-9a-f]{4,}", re.IGNORECASE)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledParts:
    """Labelled pairs as they were read.

    `frames` maps split ("" where there are no splits) -> `left`, `right`, `label`, `slice`; `left_out` maps fault -> rows.
    """

    frames: dict[str, pl.DataFrame]
    left_out: dict[str, int]


def read_labelled(
    reference: str, columns: Columns, *, slice_column: str | None = None, timeout: float = 10.0
) -> LabelledParts:
    """Read labelled pairs; rows that cannot be used are left out and counted by fault. `slice` is null without a column.

    Splits are in a fixed order: train, val, test, then others by name. Labels are mapped to the scale of the scores, with a
    warning where they do not look like `columns.label_scale`. Files are opened in the sandbox first, and only the columns
    needed are read. `timeout` is for the hub's first answer, in seconds.

    Raises `NothingToReadError` where there are no labels, `BadFileError` for a file that cannot be read or lacks a column,
    and `BadDataError` when too many of a split's rows cannot be used.
    """
    frames: dict[str, pl.DataFrame] = {}
    left_out: Counter[str] = Counter()
    labels = []
    with Sandbox() as sandbox:
        for name, frame, where in _read(reference, columns, slice_column, timeout, sandbox):
            usable, faults = usable_rows(frame, where, columns)
            frames[name] = usable.with_columns(map_labels(usable["label"], columns.label_scale))
            left_out.update(faults)
            labels.append(frame["label"].to_numpy())
    if why := doubt(np.concatenate(labels), columns.label_scale):
        log.warning("%s: %s", escape_control(Path(reference).name), why)
    return LabelledParts(frames, dict(left_out))


def _read(
    reference: str, columns: Columns, slice_column: str | None, timeout: float, sandbox: Sandbox
) -> Iterator[tuple[str, pl.DataFrame, str]]:
    """Yield each split's name ("" where there are no splits), its rows, and what messages call it."""
    path = Path(reference)
    if reference == GLUE or path.is_dir():
        for name, files in (_glue_splits(timeout) if reference == GLUE else find_splits(path, reference)).items():
            frames = [read_rows(file, columns, slice_column, sandbox, split=False) for file in files]
            where = escape_control(files[0].name) if len(files) == 1 else f"{len(files)} files of {escape_control(name)}"
            yield name, pl.concat(frames), where
        return
    if not path.exists():
        raise NothingToReadError(f"{reference}: no such labels. Name a Parquet file, a folder, or {GLUE}.")
    frame, where = read_rows(path, columns, slice_column, sandbox, split=True), escape_control(path.name)
    if "split" not in frame.columns:
        yield "", frame, where
        return
    cells = decoded(frame["split"])
    names = {cell: split_name(cell) for cell in cells.unique().drop_nulls()}
    keys = cells.replace_strict({cell: name or None for cell, name in names.items()}, default=None, return_dtype=pl.String)
    if keys.null_count():
        raise BadDataError(f"{where}: {keys.null_count()} rows have no split, first in row {keys.is_null().arg_max()}.")
    for name in in_order(set(names.values())):
        yield name, frame.filter(keys == name).drop("split"), f"{where} split {escape_control(name)}"


def split_name(text: str) -> str:
    """Return the name of a split in lower case, common names replaced: `Dev`, `VALIDATION` and `eval` are `val`."""
    name = text.strip().lower()
    return OTHER_NAMES.get(name, name)


def in_order(names: Iterable[str]) -> list[str]:
    """Order splits: train, val, test, then others by name."""
    return sorted(names, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))


def find_splits(folder: Path, reference: str) -> dict[str, list[Path]]:
    """Find the files of each split in a folder: a file with its name, numbered files as on hubs, or a folder with its name.

    Where the folder has no such file, `data/` in it is searched, as in a hub's repository. Raises `NothingToReadError` where
    there is none, and `BadDataError` where files of a split are missing or contradict each other.
    """
    files = _parquet_in(folder)
    folders = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(_split_of(file), []).append(file)
    for name, parts in found.items():
        _check_complete(parts, name, reference)
    if not found:
        found = _split_folders(folders, reference)
    if not found and "data" in folders:
        return find_splits(folders["data"], reference)
    if not found:
        raise NothingToReadError(f"{reference}: contains no .parquet file. Check the path of the labels.")
    return {name: found[name] for name in in_order(found)}


def _split_folders(folders: dict[str, Path], reference: str) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for folder, parts in ((folder, _parquet_in(folder)) for folder in folders.values()):
        name = split_name(folder.name)
        if name not in SPLITS or not parts:
            continue
        if name in found:
            raise BadDataError(f"{reference}: {escape_control(folder.name)} is the same split as another folder. Keep one.")
        if NUMBERED.fullmatch(parts[0].stem):
            _check_complete(parts, name, reference)
        found[name] = parts
    return found


def _parquet_in(folder: Path) -> list[Path]:
    """List the Parquet files of a folder, sorted by name."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(("_", ".")))
    return [entry for entry in entries if not entry.is_dir() and is_parquet(entry)]


def _split_of(file: Path) -> str:
    """Return the split of a file. A suffix without a number counts as a hash only after a usual name of a split."""
    if numbered := NUMBERED.fullmatch(file.stem):
        return split_name(numbered[1])
    hashed = HASHED.fullmatch(file.stem)
    if hashed and split_name(hashed[1]) in SPLITS:
        return split_name(hashed[1])
    return split_name(file.stem)


def _check_complete(parts: list[Path], split: str, reference: str) -> None:
    """Raise `BadDataError` where a file of a split is missing, or files are the same split twice."""
    first = NUMBERED.fullmatch(parts[0].stem)
    numbers: set[int] = set()
    count = int(first[3]) if first else 1
    for part in parts:
        numbered = NUMBERED.fullmatch(part.stem)
        number, of = (int(numbered[2]), int(numbered[3])) if numbered else (0, 1)
        if of != count or number in numbers or number >= count or bool(numbered) != bool(first):
            raise BadDataError(
                f"{reference}: {escape_control(part.name)} is the same split as another file "
                f"({escape_control(split)}). Keep one of the two."
            )
        numbers.add(number)
    lost = min(set(range(count)) - numbers, default=None)
    if first and lost is not None:
        name = f"{first[1]}-{lost:0{len(first[2])}d}-of-{first[3]}{'-*' if first[4] else ''}.parquet"
        raise BadDataError(f"{reference}: {escape_control(name)} is missing, one of {count} files of its split. Copy all.")


def _glue_splits(timeout: float) -> dict[str, list[Path]]:
    folder = fetch_snapshot(
        GLUE_REPOSITORY, revision=None, patterns=["stsb/*.parquet"], kind="dataset", timeout=timeout, offline=OFFLINE
    )
    found = find_splits(folder / "stsb", GLUE)
    if lost := [name for name in ("train", "val") if name not in found]:
        raise BadDataError(f"{GLUE_REPOSITORY}: its folder stsb has no {lost[0]} split. {OFFLINE}")
    return {name: found[name] for name in ("train", "val")}  # the labels of test are not public
