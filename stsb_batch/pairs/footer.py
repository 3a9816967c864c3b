"""Parquet's footer field by field, for what pyarrow does not expose: codecs by number, encryption, names as bytes.

Field numbers are those of https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from stsb_batch.errors import escape_control
from stsb_batch.pairs.thrift import Struct, ThriftError, read_struct


class FileField:
    VERSION, SCHEMA, ROWS, ROW_GROUPS, KEY_VALUES, CREATED_BY, COLUMN_ORDERS, ENCRYPTION = range(1, 9)


class ElementField:
    TYPE, LENGTH, REPETITION, NAME, CHILDREN, CONVERTED, SCALE, PRECISION, FIELD_ID, LOGICAL = range(1, 11)


class GroupField:
    CHUNKS, BYTES, ROWS, SORTING, OFFSET, COMPRESSED, ORDINAL = range(1, 8)


class ChunkField:
    FILE_PATH, FILE_OFFSET, META, OFFSET_INDEX, OFFSET_INDEX_LENGTH, COLUMN_INDEX, COLUMN_INDEX_LENGTH, CRYPTO = range(1, 9)


class MetaField:
    TYPE, ENCODINGS, PATH, CODEC, VALUES, UNCOMPRESSED, COMPRESSED, KEY_VALUES, DATA_OFFSET = range(1, 10)
    INDEX_OFFSET, DICTIONARY_OFFSET, STATISTICS, ENCODING_STATS, BLOOM_OFFSET, BLOOM_LENGTH = range(10, 16)


CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4 (Hadoop)", "ZSTD", "LZ4_RAW")
LZO = CODECS.index("LZO")
DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY = 6, 7  # encodings
TAIL = 8  # bytes after the footer: its length (int32, little endian) and the magic bytes


class UnreadableFooter(ValueError):
    """A footer that violates the format."""


@dataclass(frozen=True)
class Column:
    """A top-level column: its name as bytes, its schema elements (itself first), the index of its first leaf."""

    name: bytes
    elements: list[Struct]
    first_leaf: int

    @property
    def text(self) -> str:
        return _text(self.name)

    @property
    def leaves(self) -> list[Struct]:
        return [element for element in self.elements if ElementField.TYPE in element]  # a struct without fields has none

    @property
    def chunks(self) -> slice:
        """The slice of a row group's chunks that belong to this column."""
        return slice(self.first_leaf, self.first_leaf + len(self.leaves))


def footer_bytes(file: BinaryIO, size: int) -> bytes:
    """Return the bytes of a Parquet file's footer and its tail, as far as the file has them."""
    file.seek(max(0, size - TAIL))
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(0, size - TAIL - length))
    return file.read(min(length, size) + TAIL)


def read_footer(file: BinaryIO, size: int) -> Struct:
    """Read a Parquet file's footer (FileMetaData); raises `UnreadableFooter`."""
    try:
        footer, _ = read_struct(footer_bytes(file, size)[:-TAIL])
        leaves = sum(len(column.leaves) for column in columns_of(footer))
        for group in footer.items_of(FileField.ROW_GROUPS):
            if len(group.items_of(GroupField.CHUNKS)) != leaves:
                raise UnreadableFooter("its footer is damaged (a row group without a chunk for each column)")
        list(refusals(footer))  # reads every field used below, so that later code need not check
    except (ThriftError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise UnreadableFooter(f"its footer is damaged ({error})") from error
    return footer


def columns_of(footer: Struct) -> list[Column]:
    """Split the schema, which lists all elements depth first, into top-level columns. Raises `UnreadableFooter`."""
    elements = footer.items_of(FileField.SCHEMA)
    columns, place, leaves = [], 1, 0
    while place < len(elements):
        end = _end_of(elements, place)
        column = Column(elements[place].value(ElementField.NAME, b""), elements[place:end], leaves)
        columns.append(column)
        place, leaves = end, leaves + len(column.leaves)
    if not elements or len(columns) != elements[0].value(ElementField.CHILDREN, 0):
        raise UnreadableFooter("its footer is damaged (the schema is inconsistent)")
    return columns


def _end_of(elements: list[Struct], place: int) -> int:
    """Return the index after an element and everything nested in it."""
    open_elements = 1
    while open_elements:
        if place >= len(elements):
            raise UnreadableFooter("its footer is damaged (the schema is inconsistent)")
        open_elements += max(0, elements[place].value(ElementField.CHILDREN, 0)) - 1
        place += 1
    return place


def refusals(footer: Struct, names: list[str] | None = None) -> Iterator[tuple[str, str]]:
    """Yield why columns `names` (None: all) cannot be read or copied, as (file reason, message that names the column)."""
    if FileField.ENCRYPTION in footer:
        yield "ENCRYPTED", "its columns are encrypted"
    for column in columns_of(footer):
        parts = [element.value(ElementField.NAME, b"") for element in column.elements]
        if bad := next((part for part in parts if not _is_utf8(part)), None):
            yield "UNSUPPORTED", f"the column name '{_text(bad)}' is not UTF-8"
    columns = [column for column in columns_of(footer) if names is None or column.name.decode(errors="replace") in names]
    for group in footer.items_of(FileField.ROW_GROUPS):
        for column in columns:
            for chunk in group.items_of(GroupField.CHUNKS)[column.chunks]:
                yield from _chunk_refusals(chunk)


def _chunk_refusals(chunk: Struct) -> Iterator[tuple[str, str]]:
    meta = chunk.value(ChunkField.META)
    if meta is None or ChunkField.CRYPTO in chunk:
        yield "ENCRYPTED", "a column is encrypted" if meta is None else f"column '{path_of(meta)}' is encrypted"
        return
    codec = meta.value(MetaField.CODEC, 0)
    if codec == LZO or not 0 <= codec < len(CODECS):
        name = CODECS[LZO] if codec == LZO else f"unknown, number {codec}"
        yield "UNSUPPORTED", f"the codec of column '{path_of(meta)}' is {name}"
    if ChunkField.FILE_PATH in chunk:
        yield "UNSUPPORTED", f"column '{path_of(meta)}' is stored in another file"


def path_of(meta: Struct) -> str:
    """Return the path of a chunk's column, its parts joined by dots."""
    return ".".join(map(_text, meta.items_of(MetaField.PATH)))


def delta_columns(footer: Struct) -> set[str]:
    """Return the top-level columns with chunks in a delta encoding, which Arrow does not read as dictionaries."""
    found = set()
    for group in footer.items_of(FileField.ROW_GROUPS):
        for chunk in group.items_of(GroupField.CHUNKS):
            meta = chunk.value(ChunkField.META)
            if {DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY} & set(meta.items_of(MetaField.ENCODINGS)):
                found.add(_text(meta.items_of(MetaField.PATH)[0]))
    return found


def _is_utf8(name: bytes) -> bool:
    try:
        return bool(name.decode() or True)
    except UnicodeDecodeError:
        return False


def _text(name: bytes) -> str:
    return escape_control(name.decode(errors="backslashreplace"))
