"""Footers field by field: what cannot be read is named."""

from pathlib import Path

import pytest

from stsb_batch.errors import BadFileError
from stsb_batch.pairs.footer import ChunkField, ElementField, FileField, GroupField, MetaField
from stsb_batch.pairs.thrift import BINARY, I32, STRUCT, Struct
from tests.pairs.odd_parquet import TEXTS, rewrite_footer, write


def first_chunk(footer: Struct) -> Struct:
    return footer.items_of(FileField.ROW_GROUPS)[0].items_of(GroupField.CHUNKS)[0]


REFUSED = {
    "unknown codec": (
        lambda f: first_chunk(f).value(3).put(MetaField.CODEC, I32, 5000),
        "UNSUPPORTED, the codec .* number 5000",
    ),
    "negative codec": (
        lambda f: first_chunk(f).value(3).put(MetaField.CODEC, I32, -1),
        "UNSUPPORTED, the codec .* number -1",
    ),
    "LZO": (
        lambda f: first_chunk(f).value(3).put(MetaField.CODEC, I32, 3),
        "UNSUPPORTED, the codec of .*'sentence1' is LZO",
    ),
    "encrypted column": (lambda f: first_chunk(f).put(ChunkField.CRYPTO, STRUCT, Struct()), "ENCRYPTED, column 'sentence1'"),
    "no metadata": (lambda f: first_chunk(f).pop(ChunkField.META), "ENCRYPTED, a column is encrypted"),
    "other file": (
        lambda f: first_chunk(f).put(ChunkField.FILE_PATH, BINARY, b"../x"),
        "UNSUPPORTED, .*is stored in another file",
    ),
    "name": (
        lambda f: f.items_of(2)[1].put(ElementField.NAME, BINARY, b"a\xff"),
        r"UNSUPPORTED, the column name 'a\\xff' is not",
    ),
    "fields": (lambda f: f.items_of(2)[0].put(ElementField.CHILDREN, I32, 7), "CORRUPT_FILE, its footer is damaged"),
    "chunks": (lambda f: f.items_of(4)[0].items_of(1).pop(), "CORRUPT_FILE, its footer is damaged"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_named(what: str, tmp_path: Path, passed):
    """Kind: files that end the reader. The class is right and the message names column and cause."""
    change, words = REFUSED[what]
    path = write(tmp_path / "in.parquet", TEXTS)
    rewrite_footer(path, change)
    with pytest.raises(BadFileError, match=words):
        passed(path)


def test_a_damaged_page_header_is_an_error(tmp_path: Path, passed):
    """Bytes that are no page header end the copy with CORRUPT_FILE, never with a traceback or a loop."""
    path = write(tmp_path / "in.parquet", TEXTS)
    whole = path.read_bytes()
    for place in range(4, 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        (tmp_path / "scored.parquet").unlink(missing_ok=True)
        try:
            passed(path)
        except BadFileError as error:
            assert error.reason in ("CORRUPT_FILE", "RESOURCE_LIMIT", "UNSUPPORTED")
