"""From two Arrow text columns to row statuses and the distinct pairs that need a score."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stsb_batch.pairs.schema import BLANK, EMPTY_INPUT, INVALID_UTF8, NULL_INPUT, OK


@dataclass(frozen=True)
class DistinctPairs:
    """The pairs of a window that need a score, each once.

    `statuses` (rows,) int8 · `rows` (scored rows,) positions of the rows to score · `inverse` (scored rows,) which
    distinct pair each of them is · `left`, `right` (distinct texts,) of each side · `left_index`, `right_index`
    (distinct pairs,) the texts of each pair.
    """

    statuses: np.ndarray
    rows: np.ndarray
    inverse: np.ndarray
    left: pa.LargeStringArray
    right: pa.LargeStringArray
    left_index: np.ndarray
    right_index: np.ndarray


def distinct_pairs(left: pa.Array, right: pa.Array) -> DistinctPairs:
    """Classify each row and collect the distinct pairs among those that can be scored.

    What a tokeniser makes of a text is not known here: it may find more of them empty.
    """
    left_codes, left_texts, left_index = _read_column(left)
    right_codes, right_texts, right_index = _read_column(right)
    statuses = np.full(len(left), OK, np.int8)
    for code in (EMPTY_INPUT, INVALID_UTF8, NULL_INPUT):  # the last one that applies wins
        statuses[(left_codes == code) | (right_codes == code)] = code
    rows = np.flatnonzero(statuses == OK)
    keys = left_index[rows].astype(np.int64) * max(1, len(right_texts)) + right_index[rows]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    chosen = rows[first]
    return DistinctPairs(
        statuses=statuses,
        rows=rows,
        inverse=inverse,
        left=left_texts,
        right=right_texts,
        left_index=left_index[chosen],
        right_index=right_index[chosen],
    )


def _read_column(column: pa.Array) -> tuple[np.ndarray, pa.Array, np.ndarray]:
    """Return status codes, the distinct texts, and each row's index among them (0 where null)."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    column = column.cast(pa.large_binary()) if not pa.types.is_null(column.type) else column
    codes = np.where(column.is_null().to_numpy(zero_copy_only=False), NULL_INPUT, OK).astype(np.int8)
    try:
        texts = column.cast(pa.large_string())
    except pa.ArrowInvalid:
        invalid = np.array([not _is_utf8(cell) for cell in column])
        codes[invalid] = INVALID_UTF8
        texts = pc.if_else(pa.array(invalid), pa.scalar(None, column.type), column).cast(pa.large_string())
    blank = pc.equal(pc.binary_length(pc.utf8_trim(texts, BLANK)), 0).fill_null(False)
    codes[blank.to_numpy(zero_copy_only=False)] = EMPTY_INPUT
    encoded = texts.dictionary_encode()
    return codes, encoded.dictionary, encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)


def _is_utf8(cell: pa.Scalar) -> bool:
    if not cell.is_valid:
        return True
    try:
        cell.as_py().decode()
    except UnicodeDecodeError:
        return False
    return True
