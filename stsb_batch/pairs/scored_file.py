"""A shard's output: the input's columns as they are, with score and status; rows that go to quarantine are taken out."""

from collections import deque
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from stsb_batch.errors import BadFileError, escape_control
from stsb_batch.pairs.column_copy import CannotCopy, ColumnCopy
from stsb_batch.pairs.footer import UnreadableFooter
from stsb_batch.pairs.quarantine import RowQuarantine, choose_rows
from stsb_batch.pairs.schema import Columns, score_schema, status_array
from stsb_batch.pairs.source import Shard, check_unchanged, read_windows


class ScoredFile:
    """Writes a shard's rows with their scores, a row group of the input at a time; without `close` it is worthless.

    Row groups without a bad row, and all without a `quarantine`, are copied; of others, windows of rows are written anew.
    Raises `BadFileError` where the input cannot be copied.
    """

    def __init__(
        self, out: BinaryIO, source: BinaryIO, shard: Shard, columns: Columns, quarantine: RowQuarantine | None = None
    ) -> None:
        self._shard, self._columns, self._quarantine = shard, columns, quarantine
        names = shard.source.schema.names
        self._kept = [place for place, name in enumerate(names) if columns.keep is None or name in columns.keep]
        try:
            self._copy = ColumnCopy(out, source, self._kept, score_schema(columns))
        except (CannotCopy, UnreadableFooter) as error:
            raise self._refusal(error) from error
        self._groups, self._first_row = deque(shard.row_groups), 0
        self._waiting: list[
            tuple[np.ndarray, np.ndarray]
        ] = []  # scores and statuses of rows whose row group is not complete

    def add(self, scores: np.ndarray, statuses: np.ndarray) -> None:
        """Take the scores (rows,), NaN for none, and status codes (rows,) of the next rows."""
        self._waiting.append((scores, statuses))
        count = sum(len(part) for part, _ in self._waiting)
        while self._groups and count >= (rows := self._shard.source.row_groups[self._groups[0]]):
            scores, statuses = map(np.concatenate, zip(*self._waiting, strict=True))
            self._waiting, count = [(scores[rows:], statuses[rows:])], count - rows
            try:
                self._write_group(self._groups.popleft(), scores[:rows], statuses[:rows])
            except (CannotCopy, UnreadableFooter) as error:
                raise self._refusal(error) from error

    def close(self, entries: dict[str, str]) -> int:
        """Write the footer with `entries`; returns the rows of the file."""
        self._copy.close(entries)
        return self._copy.rows

    def _write_group(self, group: int, scores: np.ndarray, statuses: np.ndarray) -> None:
        bad = np.isnan(scores)
        if self._quarantine and bad.any():
            self._take_out(group, bad, scores, statuses)
        elif len(scores):
            self._copy.copy_group(group, self._score_table(scores, statuses))
        self._first_row += len(scores)

    def _take_out(self, group: int, bad: np.ndarray, scores: np.ndarray, statuses: np.ndarray) -> None:
        for window in read_windows(self._shard, None, (group,)):
            here = slice(window.first_row, window.first_row + window.rows.num_rows)
            self._quarantine.add(window.rows, bad[here], statuses[here], self._first_row + window.first_row)
            good = choose_rows(window.rows, ~bad[here]).select(self._kept)
            table = self._score_table(scores[here][~bad[here]], statuses[here][~bad[here]])
            self._copy.write_rows(pa.Table.from_batches([good]), table)

    def _score_table(self, scores: np.ndarray, statuses: np.ndarray) -> pa.Table:
        score = pa.array(scores, pa.float32(), from_pandas=True)  # NaN, which no scored row has, becomes null
        return pa.table([score, status_array(statuses)], schema=score_schema(self._columns))

    def _refusal(self, error: CannotCopy | UnreadableFooter) -> BadFileError:
        check_unchanged(self._shard.source)
        reason = getattr(error, "reason", "CORRUPT_FILE")
        return BadFileError(
            reason, f"{escape_control(self._shard.source.relative)}: {reason}, {error}. Nothing of the file was committed."
        )
