"""Read the rows of a label file: the columns that are needed, and of those the rows that can be used."""

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.errors import BadDataError, BadFileError, escape_control, first_line
from stsb_batch.pairs.kinds import refuse_tables
from stsb_batch.pairs.label_scale import doubt, is_on_scale
from stsb_batch.pairs.probe import has_lengths
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import BLANK, Columns, check_columns, is_text

MAX_LEFT_OUT = 0.01  # share of a split's rows that may be unusable
READ_BYTES = 1 << 20  # of a compressed column chunk held at a time

log = logging.getLogger(__name__)


def read_rows(path: Path, columns: Columns, slice_column: str | None, sandbox: Sandbox, *, split: bool) -> pl.DataFrame:
    """Read one file as `left`, `right` (Binary), `label` (Float32) and `slice`, with `split` also its column `split` if any.

    The file is opened in the sandbox first, and no other column is decoded. Raises `BadFileError` for a file that cannot be
    read or lacks a column, and `BadDataError` for a file of a table format.
    """
    name, label = escape_control(path.name), columns.label or "label"
    needed = [columns.left, columns.right, label, *([slice_column] if slice_column else []), *(["split"] if split else [])]
    refuse_tables([path])
    sandbox.probe_footer(path, name, needed)
    schema = _schema_of(path, name)
    problems = check_columns(schema, Columns(columns.left, columns.right, label))
    if slice_column and slice_column not in schema.names:
        problems.append(f"has no column '{slice_column}' (found: {', '.join(schema.names)}). Name it with --slice")
    problems += [f"column '{one}' exists more than once" for one in needed[3:] if schema.names.count(one) > 1]
    split = split and "split" in schema.names
    if split and not problems and not is_text(schema.field("split").type):
        problems.append(f"column 'split' is {schema.field('split').type}, not text")
    if problems:
        raise BadFileError("SCHEMA", f"{name}: {escape_control('; '.join(problems))}.")
    fields = [field for field in schema if field.name in needed]
    sandbox.probe_pages(path, name, [f.name for f in fields], [f.name for f in fields if has_lengths(f.type)])
    table = _table(path, name, [field.name for field in fields])
    cells = {
        "left": _bytes(table[columns.left]),
        "right": _bytes(table[columns.right]),
        "label": _cast(table, label, pa.float32(), f"{name}: label column '{label}'"),
        "slice": pa.nulls(table.num_rows, pa.large_string()),
    }
    if slice_column:
        cells["slice"] = _cast(table, slice_column, pa.large_string(), f"{name}: column '{slice_column}'").fill_null("null")
    if split:
        cells["split"] = _bytes(table["split"])
    return pl.DataFrame(pa.table(cells))


def _schema_of(path: Path, name: str) -> pa.Schema:
    try:
        with path.open("rb") as file:
            return pq.read_schema(file)
    except (OSError, ValueError, NotImplementedError, pa.ArrowException) as error:
        raise _unreadable(name, error) from error


def _table(path: Path, name: str, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=READ_BYTES) as file:
            return file.read(columns, use_threads=False)
    except (OSError, ValueError, NotImplementedError, pa.ArrowException) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> BadFileError:
    return BadFileError("CORRUPT_FILE", f"{name}: CORRUPT_FILE, cannot be read ({first_line(error)}). Replace it.")


def _bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text as the bytes it is stored in, which need not be UTF-8."""
    return column.cast(pa.large_string()).cast(pa.large_binary())


def _cast(table: pa.Table, column: str, kind: pa.DataType, where: str) -> pa.ChunkedArray:
    try:
        cells = table[column].cast(kind, safe=False)
        return cells if kind == pa.float32() else cells.cast(pa.large_binary()).cast(kind)  # this checks UTF-8
    except pa.ArrowException as error:
        wanted = "a number" if kind == pa.float32() else "the name of a slice"
        message = f"{where} is {table[column].type}, which cannot be read as {wanted} ({first_line(error)})."
        raise BadFileError("SCHEMA", message) from error


def decoded(cells: pl.Series) -> pl.Series:
    """Return a column of bytes as text, null where a cell is not UTF-8."""
    try:
        return cells.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(cells.name, [_utf8(cell) for cell in cells], pl.String)


def _utf8(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def usable_rows(rows: pl.DataFrame, where: str, columns: Columns) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the rows that can be used, and the number of those that cannot by fault. `where` is what messages call them.

    Texts are decoded; labels keep their scale. A row cannot be used when its label is null or outside the scale, or one of
    its texts is null, blank or not UTF-8. Raises `BadDataError` when these are more than `MAX_LEFT_OUT` of the rows.
    """
    outside = "labels outside {:g}-{:g}".format(*columns.label_scale)
    frame = rows.with_columns(decoded(rows["left"]), decoded(rows["right"]))
    null_text = rows["left"].is_null() | rows["right"].is_null()
    undecodable = (frame["left"].is_null() | frame["right"].is_null()) & ~null_text
    blank = (frame["left"].str.strip_chars(BLANK) == "") | (frame["right"].str.strip_chars(BLANK) == "")
    faults = {
        f"null or NaN in '{columns.label or 'label'}'": frame["label"].is_null() | frame["label"].is_nan(),
        outside: ~is_on_scale(frame["label"], columns.label_scale) & frame["label"].is_not_nan(),
        "null texts": null_text,
        "texts that are not UTF-8": undecodable,
        "blank texts": blank & ~null_text,
    }
    places = {fault: np.flatnonzero(mask.fill_null(False).to_numpy()) for fault, mask in faults.items()}
    bad = np.unique(np.concatenate(list(places.values())))
    counts = "; ".join(f"{len(found)} {fault}, first in row {found[0]}" for fault, found in places.items() if len(found))
    if len(bad) > MAX_LEFT_OUT * frame.height:
        why = doubt(frame["label"].to_numpy(), columns.label_scale) if outside in counts else None
        raise BadDataError(
            f"{where}: {counts}. At most {MAX_LEFT_OUT:.0%} of the rows may be unusable; "
            + (why or "correct or remove these.")
        )
    if counts:
        log.warning("%s: left out %s", where, counts)
    return frame[np.setdiff1d(np.arange(frame.height), bad)], {fault: len(p) for fault, p in places.items() if len(p)}
