"""Labelled pairs as they lie there: Parquet files, folders of splits, GLUE. Knows files and splits, not their rows."""

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
# a file of a split that has several, with the hash that hubs give it: train-00000-of-00002-1f0a9c1b2d3e4f56
NUMBERED = re.compile(r"(.+?)-(\d{5,})-of-(\d{5,})(-[0-9a-f]+)?", re.IGNORECASE)
HASHED = re.compile(r"(.+?)-[0-9a-f]{4,}", re.IGNORECASE)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledParts:
    """Frames `left`, `right`, `label`, `slice` by split ("" where nothing says the split); fault -> rows left out."""

    frames: dict[str, pl.DataFrame]
    left_out: dict[str, int]


def read_labelled(
    reference: str, columns: Columns, *, slice_column: str | None = None, timeout: float = 10.0
) -> LabelledParts:
    """Read labelled pairs and leave out the rows that cannot be used, each kind counted; `slice` is null without a column.

    Splits come in a fixed order: train, val, test, then others by name. Labels are mapped on the scale of the scores; a
    warning says when they do not look like the scale that they are read on. Files are opened in the sandbox first, and only
    the columns named are read.

    Raises `BadFileError` for a file that cannot be read or lacks a column, and `BadDataError` when too many of a split's
    rows cannot be used.
    """
    frames, left_out, labels = {}, Counter(), []
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
    """Yield each split's name ("" where nothing says it), its rows, and what to call it in a message."""
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
    names = {cell: split_name(cell) or None for cell in cells.unique().drop_nulls()}
    keys = cells.replace_strict(names, default=None, return_dtype=pl.String)
    if keys.null_count():
        raise BadDataError(f"{where}: {keys.null_count()} rows have no split, first in row {keys.is_null().arg_max()}.")
    for name in in_order(set(names.values())):
        yield name, frame.filter(keys == name).drop("split"), f"{where} split {escape_control(name)}"


def split_name(text: str) -> str:
    """Return what a split is called here, whatever its case and common name: `Dev`, `VALIDATION` and `eval` are val."""
    name = text.strip().lower()
    return OTHER_NAMES.get(name, name)


def in_order(names: Iterable[str]) -> list[str]:
    """Order splits: train, val, test, then others by name."""
    return sorted(names, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))


def find_splits(folder: Path, reference: str) -> dict[str, list[Path]]:
    """Find the files of each split in a folder: one of its name, numbered ones as hubs have them, or a folder of its name.

    Where the folder holds no Parquet itself, `data/` below it does, as in a hub's repository.
    """
    files, below = _parquet_in(folder), {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(_split_of(file), []).append(file)
    for name, parts in found.items():
        _check_whole(parts, name, reference)
    if not found:
        found = _split_folders(below, reference)
    if not found and "data" in below:
        return find_splits(below["data"], reference)
    if not found:
        raise NothingToReadError(f"{reference}: holds no .parquet file. Check the path of the labels.")
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
            _check_whole(parts, name, reference)
        found[name] = parts
    return found


def _parquet_in(folder: Path) -> list[Path]:
    """List the Parquet files of a folder by name, sorted."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(("_", ".")))
    return [entry for entry in entries if not entry.is_dir() and is_parquet(entry)]


def _split_of(file: Path) -> str:
    """Name the split that a file is of. A hash without a number is one only behind the usual name of a split."""
    if numbered := NUMBERED.fullmatch(file.stem):
        return split_name(numbered[1])
    hashed = HASHED.fullmatch(file.stem)
    if hashed and split_name(hashed[1]) in SPLITS:
        return split_name(hashed[1])
    return split_name(file.stem)


def _check_whole(parts: list[Path], split: str, reference: str) -> None:
    """Refuse files of a split of which one is missing, or which are the split twice."""
    first, numbers = NUMBERED.fullmatch(parts[0].stem), []
    count = int(first[3]) if first else 1
    for part in parts:
        numbered = NUMBERED.fullmatch(part.stem)
        number, of = (int(numbered[2]), int(numbered[3])) if numbered else (0, 1)
        if of != count or number in numbers or number >= count or bool(numbered) != bool(first):
            raise BadDataError(
                f"{reference}: {escape_control(part.name)} is the same split as another file "
                f"({escape_control(split)}). Keep one of the two."
            )
        numbers.append(number)
    lost = next((number for number in range(count) if number not in numbers), None)
    if lost is not None:
        name = f"{first[1]}-{lost:0{len(first[2])}d}-of-{first[3]}{'-*' if first[4] else ''}.parquet"
        raise BadDataError(f"{reference}: {escape_control(name)} is missing, one of {count} files of its split. Copy all.")


def _glue_splits(timeout: float) -> dict[str, list[Path]]:
    folder = fetch_snapshot(
        GLUE_REPOSITORY, revision=None, patterns=["stsb/*.parquet"], kind="dataset", timeout=timeout, offline=OFFLINE
    )
    found = find_splits(folder / "stsb", GLUE)
    if lost := [name for name in ("train", "val") if name not in found]:
        raise BadDataError(f"{GLUE_REPOSITORY}: its folder stsb has no {lost[0]} split. {OFFLINE}")
    return {name: found[name] for name in ("train", "val")}  # labels of test are kept from all
