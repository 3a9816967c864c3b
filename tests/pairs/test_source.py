"""Finding, checking and streaming input."""

import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.errors import BadDataError, BadFileError, UsageError
from stsb_batch.pairs.listing import find_files
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import Columns
from stsb_batch.pairs.source import (
    Shard,
    SourceFile,
    check_unchanged,
    cut_row_groups,
    inspect_file,
    inspect_files,
    read_windows,
    with_digest,
)
from tests.builders import make_pairs


def inspect(location: Path, columns: Columns = Columns()) -> tuple:  # noqa: B008 - frozen
    with Sandbox() as sandbox:
        return inspect_files(find_files(str(location)), columns, sandbox)


def test_bad_files_are_told_apart_from_good_ones(tmp_path: Path):
    """Each file that cannot be scored is listed with its reason; the others are ready."""
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    pl.DataFrame({"sentence1": ["a"]}).write_parquet(tmp_path / "short.parquet")
    make_pairs(2).write_parquet(tmp_path / "good.parquet")
    sources, bad = inspect(tmp_path)
    assert [str(source.relative) for source in sources] == ["good.parquet"]
    assert [(str(file.relative), file.error.reason) for file in bad] == [
        ("broken.parquet", "CORRUPT_FILE"),
        ("short.parquet", "SCHEMA"),
    ]


def test_input_that_has_a_score_is_refused(tmp_path: Path):
    """An input column with the output's name needs --score-column."""
    make_pairs(2).with_columns(score=1.0).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="--score-column"):
        inspect(tmp_path)
    assert inspect(tmp_path, Columns(score="sim"))[0]


def test_row_groups_are_cut_into_shards_in_order(pairs_file: Path):
    """Consecutive row groups are joined up to the limit; a larger one stands alone; no row group is lost."""
    source = inspect_file(pairs_file, Path("in.parquet"))
    assert cut_row_groups(source, 250) == [(0, 1), (2, 3), (4,)]
    assert cut_row_groups(source, 1) == [(0,), (1,), (2,), (3,), (4,)]
    assert cut_row_groups(source, 10**6) == [(0, 1, 2, 3, 4)]


def test_windows_give_all_rows_in_order(pairs_file: Path):
    """Streaming in windows gives the shard's rows, in order, with their positions."""
    source = replace(inspect_file(pairs_file, Path("in.parquet")), window_rows=64)
    windows = list(read_windows(Shard(source, (1, 2), Path("o"), ""), ["id"]))
    assert [id_ for window in windows for id_ in window.rows["id"].to_pylist()] == list(range(100, 300))
    assert [window.first_row for window in windows] == [
        sum(w.rows.num_rows for w in windows[:i]) for i in range(len(windows))
    ]


def test_empty_file_has_one_empty_shard(tmp_path: Path):
    """A file without row groups still becomes a shard, so that it has an output."""
    pq.write_table(pa.table({"sentence1": pa.array([], pa.string())}), tmp_path / "e.parquet")
    source = inspect_file(tmp_path / "e.parquet", Path("e.parquet"))
    spans = cut_row_groups(source, 10)
    assert len(spans) == 1
    assert sum(window.rows.num_rows for window in read_windows(Shard(source, spans[0], Path("o"), ""), None)) == 0


@pytest.fixture
def planned(pairs_file: Path) -> SourceFile:
    return with_digest(inspect_file(pairs_file, Path("in.parquet")), {})


def test_changed_file_is_noticed(pairs_file: Path, planned: SourceFile):
    """A file rewritten after planning is INPUT_CHANGED, even with the same size and time: its change time tells."""
    check_unchanged(planned)
    content = bytearray(pairs_file.read_bytes())
    content[len(content) // 2] ^= 1
    pairs_file.write_bytes(content)
    os.utime(pairs_file, ns=(planned.stamp.mtime_ns, planned.stamp.mtime_ns))
    with pytest.raises(BadDataError, match="INPUT_CHANGED"):
        check_unchanged(planned)


def test_same_bytes_are_the_same_file(pairs_file: Path, planned: SourceFile):
    """Kind: another input by its time alone. A file that was touched, or written again as it was, has not changed."""
    pairs_file.write_bytes(pairs_file.read_bytes())
    os.utime(pairs_file, ns=(1, 1))
    check_unchanged(planned)
    assert with_digest(inspect_file(pairs_file, Path("in.parquet")), {}).identity() == planned.identity()


def test_recorded_digest_is_taken_only_under_the_same_stamp(pairs_file: Path, planned: SourceFile):
    """While a file's stamp stays as it was, its digest is not made again; when anything of it changes, it is."""
    recorded = planned.record() | {"sha256": "recorded"}
    assert with_digest(planned, recorded).sha256 == "recorded"
    for key in ("size", "mtime_ns", "ctime_ns", "inode", "path"):
        assert with_digest(planned, recorded | {key: -1}).sha256 == planned.sha256


def test_flipped_bit_in_a_page_is_an_error(tmp_path: Path):
    """A damaged page of a file with checksums is never read as data."""
    path = tmp_path / "in.parquet"
    pq.write_table(make_pairs(500).to_arrow(), path, write_page_checksum=True, compression="none", use_dictionary=False)
    source = inspect_file(path, Path("in.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    source = inspect_file(path, Path("in.parquet"))  # the damage was there before
    with pytest.raises(BadFileError, match=r"in\.parquet: CORRUPT_FILE, cannot be read after row"):
        list(read_windows(Shard(source, (0,), Path("o"), ""), None))
