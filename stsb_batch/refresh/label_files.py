"""Labelled pairs as they lie there: Parquet files, folders of splits, GLUE. Reads and checks rows; knows no training."""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from stsb_batch.errors import BadDataError, NothingToReadError, first_line, shown
from stsb_batch.models.hub import fetch_snapshot
from stsb_batch.pairs.schema import BLANK, LABEL_RANGE, Columns

GLUE = "glue/stsb"
GLUE_REPOSITORY = "nyu-mll/glue"
OFFLINE = "Without a hub, name labelled Parquet with --labels (columns sentence1, sentence2, label)."
SPLIT_NAMES = {"validation": "val", "dev": "val", "valid": "val"}
NUMBERED = re.compile(r"(.+)-\d{5}-of-(\d{5})\.parquet")  # a file of a split that has several
MAX_LEFT_OUT = 0.01  # share of a split's rows that may be unusable

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

    Raises `BadDataError` when more than `MAX_LEFT_OUT` of a split's rows have a label that is null or outside 0-5, or a
    text that is null or blank, with their number and first row.
    """
    frames, left_out = {}, Counter()
    for name, (frame, where) in _read(reference, timeout).items():
        chosen = _chosen(frame, where, columns, slice_column)
        usable, faults = _usable(chosen, where, columns.label or "label")
        frames[name] = usable
        left_out.update(faults)
    return LabelledParts(frames, dict(left_out))


def _read(reference: str, timeout: float) -> dict[str, tuple[pl.DataFrame, str]]:
    """Return split name -> (frame as read, what to call it in a message); the name is "" where nothing says the split."""
    path = Path(reference)
    if reference == GLUE:
        return _read_glue(timeout)
    if path.is_dir():
        return _read_folder(path, reference)
    if not path.is_file():
        raise NothingToReadError(f"{reference}: no such labels. Name a Parquet file, a folder, or {GLUE}.")
    frame = _read_parquet([path])
    if "split" not in frame.columns:
        return {"": (frame, path.name)}
    keys = frame.select(_text("split", frame.schema, path.name)).to_series().replace(SPLIT_NAMES)
    if keys.null_count():
        raise BadDataError(f"{path.name}: {keys.null_count()} rows have no split, first in row {keys.is_null().arg_max()}.")
    return {name: (frame.filter(keys == name), f"{path.name} split {shown(name)}") for name in keys.unique().to_list()}


def _read_folder(folder: Path, reference: str) -> dict[str, tuple[pl.DataFrame, str]]:
    """Read a folder's splits, each a file of its name or, as hubs have them, some numbered ones."""
    files = sorted(file for file in folder.glob("*.parquet") if not file.name.startswith(("_", ".")))
    if not files:
        raise NothingToReadError(f"{reference}: holds no .parquet file. Check the path of the labels.")
    splits: dict[str, list[Path]] = {}
    for file in files:
        numbered = NUMBERED.fullmatch(file.name)
        stem = numbered[1] if numbered else file.stem
        splits.setdefault(SPLIT_NAMES.get(stem, stem), []).append(file)
    for parts in splits.values():
        names, expected = [part.name for part in parts], _siblings(parts[0].name)
        if lost := [name for name in expected if name not in names]:
            raise BadDataError(
                f"{reference}: {shown(lost[0])} is missing, one of {len(expected)} files of its split. Copy all."
            )
        if double := [name for name in names if name not in expected]:
            raise BadDataError(f"{reference}: {shown(double[0])} is the same split as another file. Keep one of the two.")
    return {
        name: (_read_parquet(parts), parts[0].name if len(parts) == 1 else f"{len(parts)} files of {name}")
        for name, parts in splits.items()
    }


def _siblings(name: str) -> list[str]:
    """Name all files of the split that a file is of."""
    if numbered := NUMBERED.fullmatch(name):
        return [f"{numbered[1]}-{part:05d}-of-{numbered[2]}.parquet" for part in range(int(numbered[2]))]
    return [name]


def _read_glue(timeout: float) -> dict[str, tuple[pl.DataFrame, str]]:
    folder = fetch_snapshot(
        GLUE_REPOSITORY, revision=None, patterns=["stsb/*.parquet"], kind="dataset", timeout=timeout, offline=OFFLINE
    )
    splits = _read_folder(folder / "stsb", GLUE)
    if lost := [name for name in ("train", "val") if name not in splits]:
        raise BadDataError(f"{GLUE_REPOSITORY}: its folder stsb has no {lost[0]} split. {OFFLINE}")
    return {name: (splits[name][0], f"{GLUE} {name}") for name in ("train", "val")}  # labels of test are kept from all


def _read_parquet(files: list[Path]) -> pl.DataFrame:
    frames = []
    for file in files:
        try:
            frames.append(pl.read_parquet(file, memory_map=False, glob=False))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise BadDataError(f"{file.name}: not a readable Parquet file ({first_line(error)}).") from error
    try:
        return pl.concat(frames)
    except pl.exceptions.PolarsError as error:
        where = f"{files[0].name} to {files[-1].name}"
        raise BadDataError(f"{where}: their columns are not the same ({first_line(error)}).") from error


def _chosen(frame: pl.DataFrame, where: str, columns: Columns, slice_column: str | None) -> pl.DataFrame:
    label = columns.label or "label"
    wanted = {"--left": columns.left, "--right": columns.right, "--label": label}
    for option, name in (wanted | ({"--slice": slice_column} if slice_column else {})).items():
        if name not in frame.columns:
            raise BadDataError(
                f"{where}: has no column '{name}' (found: {', '.join(map(shown, frame.columns))}). Name it with {option}."
            )
    if not frame.schema[label].is_numeric():
        raise BadDataError(f"{where}: label column '{label}' is {frame.schema[label]}, not a number.")
    return frame.select(
        _text(columns.left, frame.schema, where).alias("left"),
        _text(columns.right, frame.schema, where).alias("right"),
        pl.col(label).cast(pl.Float32).alias("label"),
        (_slices(slice_column, frame.schema, where) if slice_column else pl.lit(None, pl.String)).alias("slice"),
    )


def _text(name: str, schema: pl.Schema, where: str) -> pl.Expr:
    """Return a column of text; raises `BadDataError` for one of any other kind."""
    if not isinstance(schema[name], pl.String | pl.Categorical | pl.Enum | pl.Null):
        raise BadDataError(f"{where}: column '{name}' is {schema[name]}, not text.")
    return pl.col(name).cast(pl.String)


def _slices(name: str, schema: pl.Schema, where: str) -> pl.Expr:
    if schema[name].is_nested() or schema[name] == pl.Binary:
        raise BadDataError(f"{where}: column '{name}' is {schema[name]}, which names no slices.")
    return pl.col(name).cast(pl.String).fill_null("null")


def _usable(frame: pl.DataFrame, where: str, label: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the rows that can be learned from and, by fault, the number of those that cannot."""
    low, high = LABEL_RANGE
    null_text = frame["left"].is_null() | frame["right"].is_null()
    blank = (frame["left"].str.strip_chars(BLANK) == "") | (frame["right"].str.strip_chars(BLANK) == "")
    faults = {
        f"null or NaN in '{label}'": frame["label"].is_null() | frame["label"].is_nan(),
        f"labels outside {low:g}-{high:g}": ~frame["label"].is_between(low, high) & frame["label"].is_not_nan(),
        "null texts": null_text,
        "blank texts": blank & ~null_text,
    }
    rows = {fault: np.flatnonzero(mask.fill_null(False).to_numpy()) for fault, mask in faults.items()}
    bad = np.unique(np.concatenate(list(rows.values())))
    said = "; ".join(f"{len(places)} {fault}, first in row {places[0]}" for fault, places in rows.items() if len(places))
    if len(bad) > MAX_LEFT_OUT * frame.height:
        raise BadDataError(
            f"{where}: {said}. At most {MAX_LEFT_OUT:.0%} of the rows may be unusable; correct or remove these."
        )
    if said:
        log.warning("%s: left out %s", where, said)
    return frame[np.setdiff1d(np.arange(frame.height), bad)], {fault: len(p) for fault, p in rows.items() if len(p)}
