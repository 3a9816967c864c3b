"""Quarantined rows: chosen in any layout of text, beside names that are taken, removed only where they are ours."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.pairs.layout import Target
from stsb_batch.pairs.quarantine import MARK, added_schema, choose_rows, sweep_side_files, withdraw
from tests.pairs.odd_parquet import TEXTS, write


def test_added_names_give_way():
    """Names that the input has, in any case, get an underscore; the order stays."""
    assert added_schema(["id"]).names == ["quarantine_file", "quarantine_row", "quarantine_reason"]
    assert added_schema(["QUARANTINE_ROW", "quarantine_row_"]).names[1] == "quarantine_row__"


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_rows_are_chosen_in_their_own_type(kind: pa.DataType):
    """What is chosen keeps type and order; when all are chosen nothing is copied."""
    rows = pa.RecordBatch.from_arrays([pa.array(["a", "b", None, "c"]).cast(kind)], ["x"])
    chosen = choose_rows(rows, np.array([True, False, True, False]))
    assert (chosen.schema, chosen.column(0).to_pylist()) == (rows.schema, ["a", None])
    assert choose_rows(rows, np.ones(4, bool)) is rows


def test_only_our_side_files_are_removed(tmp_path: Path):
    """Of an earlier plan's side files those that carry our mark go, others stay."""
    target = Target(tmp_path / "out")
    ours, kept, foreign = (target.side / name for name in ("a.pq", "b.pq", "c.pq"))
    target.side.mkdir(parents=True)
    marked = pa.table(TEXTS).replace_schema_metadata({MARK: "1"})
    for path in (ours, kept):
        pq.write_table(marked, path)
    write(foreign, TEXTS)
    sweep_side_files(target, {kept})
    assert target.side_files == [kept, foreign]
    withdraw(foreign)
    withdraw(tmp_path / "nowhere")
    assert foreign.exists()
