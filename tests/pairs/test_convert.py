"""The command that makes Parquet of another format."""

import gzip
from pathlib import Path

import pytest

from stsb_batch.pairs.convert import conversion

CSV, JSON = b"sentence1,sentence2\na,b\n", b'[{"sentence1": "a"}]'


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("a.csv", CSV, "read_csv('{path}')"),
        ("a.csv.gz", gzip.compress(CSV, mtime=0), "read_csv('{path}', compression = 'gzip')"),
        ("a.txt", JSON, "read_json('{path}')"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd....", "read_json('{path}', compression = 'zstd')"),
        ("a.avro", b"Obj\x01", "read_avro('{path}')"),
        ("a.xlsx", b"PK\x03\x04", "read_xlsx('{path}')"),
        ("a.arrow", b"ARROW1", "pa.ipc.open_file('{path}')"),
        ("a.orc", b"ORC", "pa.orc.read_table('{path}')"),
    ],
)
def test_known_formats_have_a_command(name: str, content: bytes, command: str, tmp_path: Path):
    """First bytes and name decide which reader the command uses; it writes beside the file."""
    path = tmp_path / name
    path.write_bytes(content)
    said = conversion(path)
    assert command.format(path=path) in said
    assert str(path.with_suffix(".parquet")) in said


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"\x1f\x8bnot gzip"])
def test_unknown_bytes_have_none(content: bytes, tmp_path: Path):
    """Where nothing is known of the content no command is named."""
    (tmp_path / "a").write_bytes(content)
    assert conversion(tmp_path / "a") is None


def test_text_that_calls_itself_parquet_is_not_written_over(tmp_path: Path):
    """A CSV by the name of `a.parquet` is converted into another file; a quote in its name is doubled."""
    (tmp_path / "it's.parquet").write_bytes(CSV)
    said = conversion(tmp_path / "it's.parquet")
    assert "it''s.converted.parquet" in said
