"""A shard's output: the input's columns unchanged, plus score and status, without the rows that go to quarantine."""

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
    """Write a shard's rows with their scores, one row group of the input at a time. The file is valid only after `close`.

    A row group is copied unless rows of it go to `quarantine`; then its other rows are encoded again. Raises `BadFileError`
    where the input cannot be copied.
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
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []  # scores and statuses of an incomplete row group

    def add(self, scores: np.ndarray, statuses: np.ndarray) -> None:
        """Add the scores (rows,), NaN where a row has none, and the status codes (rows,) of the next rows."""
        self._pending.append((scores, statuses))
        count = sum(len(part) for part, _ in self._pending)
        while self._groups and count >= (rows := self._shard.source.row_groups[self._groups[0]]):
            scores, statuses = map(np.concatenate, zip(*self._pending, strict=True))
            self._pending, count = [(scores[rows:], statuses[rows:])], count - rows
            try:
                self._write_group(self._groups.popleft(), scores[:rows], statuses[:rows])
            except (CannotCopy, UnreadableFooter) as error:
                raise self._refusal(error) from error

    def close(self, entries: dict[str, str]) -> int:
        """Write the footer with `entries` as key-value metadata; returns the number of rows written."""
        self._copy.close(entries)
        return self._copy.rows

    def _write_group(self, group: int, scores: np.ndarray, statuses: np.ndarray) -> None:
        bad = np.isnan(scores)
        if self._quarantine and bad.any():
            self._write_good_rows(self._quarantine, group, bad, scores, statuses)
        elif len(scores):
            self._copy.copy_group(group, self._score_table(scores, statuses))
        self._first_row += len(scores)

    def _write_good_rows(
        self, quarantine: RowQuarantine, group: int, bad: np.ndarray, scores: np.ndarray, statuses: np.ndarray
    ) -> None:
        for window in read_windows(self._shard, None, (group,)):
            here = slice(window.first_row, window.first_row + window.rows.num_rows)
            quarantine.add(window.rows, bad[here], statuses[here], self._first_row + window.first_row)
            good = choose_rows(window.rows, ~bad[here]).select(self._kept)
            table = self._score_table(scores[here][~bad[here]], statuses[here][~bad[here]])
            self._copy.write_rows(pa.Table.from_batches([good]), table)

    def _score_table(self, scores: np.ndarray, statuses: np.ndarray) -> pa.Table:
        score = pa.array(scores, pa.float32(), from_pandas=True)  # NaN, which marks a row without a score, becomes null
        return pa.table([score, status_array(statuses)], schema=score_schema(self._columns))

    def _refusal(self, error: CannotCopy | UnreadableFooter) -> BadFileError:
        check_unchanged(self._shard.source)
        reason = getattr(error, "reason", "CORRUPT_FILE")
        return BadFileError(
            reason, f"{escape_control(self._shard.source.relative)}: {reason}, {error}. Nothing of the file was committed."
        )
