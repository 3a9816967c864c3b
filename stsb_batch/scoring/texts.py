"""From two Arrow text columns to row statuses and the distinct pairs that need a score."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stsb_batch.pairs.schema import BLANK, EMPTY_INPUT, INVALID_UTF8, NULL_INPUT, OK, OK_TRUNCATED

CHARACTERS_PER_TOKEN = 64  # texts are cut at this many characters per token of the limit before they are tokenised


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


def distinct_pairs(left: pa.Array, right: pa.Array, *, max_length: int) -> DistinctPairs:
    """Classify each row and collect the distinct pairs among those that can be scored."""
    left_codes, left_cut, left_texts, left_index = _read_column(left, max_length * CHARACTERS_PER_TOKEN)
    right_codes, right_cut, right_texts, right_index = _read_column(right, max_length * CHARACTERS_PER_TOKEN)
    statuses = np.full(len(left), OK, np.int8)
    statuses[left_cut | right_cut] = OK_TRUNCATED
    for code in (EMPTY_INPUT, INVALID_UTF8, NULL_INPUT):  # the last one that applies wins
        statuses[(left_codes == code) | (right_codes == code)] = code
    rows = np.flatnonzero((statuses == OK) | (statuses == OK_TRUNCATED))
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


def _read_column(column: pa.Array, max_characters: int) -> tuple[np.ndarray, np.ndarray, pa.Array, np.ndarray]:
    """Return status codes, which rows were cut, the distinct texts, and each row's index among them (0 where null)."""
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
    long = pc.greater(pc.utf8_length(texts), max_characters).fill_null(False)
    if long.true_count:  # what is cut off is not to be all there was
        texts = pc.if_else(long, pc.utf8_trim(texts, BLANK), texts)
    cut = pc.greater(pc.utf8_length(texts), max_characters).fill_null(False).to_numpy(zero_copy_only=False)
    if cut.any():
        texts = pc.utf8_slice_codeunits(texts, 0, max_characters)
    encoded = texts.dictionary_encode()
    return codes, cut, encoded.dictionary, encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)


def _is_utf8(cell: pa.Scalar) -> bool:
    if not cell.is_valid:
        return True
    try:
        cell.as_py().decode()
    except UnicodeDecodeError:
        return False
    return True
