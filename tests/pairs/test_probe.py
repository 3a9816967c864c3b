"""What is wrong with a Parquet file: the gates before and while it is decoded, without the child process."""

from pathlib import Path

import pyarrow as pa
import pytest

from stsb_batch.pairs.probe import MAX_COLUMNS, Rejected, has_lengths, probe_footer, probe_pages
from tests.pairs.odd_parquet import TEXTS, write


def reason_of(path: Path, columns: list[str] | None = None) -> str:
    with pytest.raises(Rejected) as rejected:
        probe_footer(path, columns)
    return rejected.value.reason


def test_pages_are_decoded_batch_by_batch(tmp_path: Path):
    """A sign of life follows each batch, and the heaviest rows are measured with repeated values spelled out."""
    path = write(tmp_path / "a.parquet", {"sentence1": ["x" * 1_000] * 100, "sentence2": ["y"] * 100}, row_group_size=50)
    probe_footer(path)
    alive = []
    heaviest = probe_pages(path, list(TEXTS), list(TEXTS), lambda: alive.append(True))
    assert heaviest == pytest.approx(1_001, abs=10)
    assert len(alive) == 2


def test_shape_has_limits(tmp_path: Path):
    """Too many columns and columns nested too deep are over the limit before anything is decoded."""
    many = {f"c{number}": pa.nulls(1, pa.int8()) for number in range(MAX_COLUMNS + 1)}
    assert reason_of(write(tmp_path / "many.parquet", many)) == "RESOURCE_LIMIT"
    deep = pa.array([1])
    for _ in range(65):
        deep = pa.StructArray.from_arrays([deep], ["x"])
    assert reason_of(write(tmp_path / "deep.parquet", {"deep": deep})) == "RESOURCE_LIMIT"


def test_a_footer_that_promises_too_much_is_refused(tmp_path: Path):
    """More rows than the file's bytes could hold are over the limit; an encrypted footer is seen by its magic word."""
    content = {name: [name] * 2_000_000 for name in TEXTS}
    assert reason_of(write(tmp_path / "a.parquet", content, compression="zstd")) == "RESOURCE_LIMIT"
    (tmp_path / "b.parquet").write_bytes(b"PARE" + b"\0" * 16 + b"PARE")
    assert reason_of(tmp_path / "b.parquet") == "ENCRYPTED"


def test_strings_and_bytes_have_lengths():
    """Only such columns are decoded as dictionaries."""
    assert [has_lengths(kind) for kind in (pa.string(), pa.large_binary(), pa.int64())] == [True, True, False]
