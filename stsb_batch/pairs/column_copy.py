"""Write a Parquet file from another one: copies of its column chunks, byte for byte, and chunks of added columns.

What is copied is never decoded and encoded again, so that every reader sees the values, types and annotations of the
input: INT96, UUID, intervals, types that Arrow does not know. Pages without a checksum get one; page indexes and Bloom
filters, which are optional, are dropped. Knows nothing of scores.
"""

import io
import zlib
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.pairs.footer import (
    ChunkField,
    Column,
    ElementField,
    FileField,
    GroupField,
    MetaField,
    columns_of,
    path_of,
    read_footer,
)
from stsb_batch.pairs.hints import Kept, adapted_entries
from stsb_batch.pairs.thrift import (
    BINARY,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    Struct,
    ThriftError,
    Truncated,
    read_struct,
    write_struct,
)

MAGIC = b"PAR1"
MAX_GROUP_ROWS = 64 << 20  # the most that pyarrow writes into one row group
MAX_ORDINAL = 2**15 - 1
HEADER_BYTES, MAX_HEADER_BYTES = 1 << 10, 16 << 20  # read for a page's header: at first, and at most
DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = range(4)
LAYOUT = (ElementField.TYPE, ElementField.LENGTH, ElementField.REPETITION, ElementField.CHILDREN)


class PageField:
    TYPE, UNCOMPRESSED, COMPRESSED, CRC, DATA, INDEX, DICTIONARY, DATA_V2 = range(1, 9)


class CannotCopy(ValueError):
    """The input cannot be copied; `reason` is one of the file reasons, the text says what cannot be copied."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class ColumnCopy:
    """Write to `out` a Parquet file with some top-level columns of `source` and the columns of the schema `added`.

    `kept` are the positions of the columns that are copied. Row groups are added one by one; the file is valid only after
    `close` has written its footer. Raises `CannotCopy`, `UnreadableFooter`, `OSError`.
    """

    def __init__(self, out: BinaryIO, source: BinaryIO, kept: list[int], added: pa.Schema) -> None:
        self.rows = 0
        self._out, self._source, self._added = out, source, added
        self._footer = read_footer(source, source.seek(0, io.SEEK_END))
        columns = columns_of(self._footer)
        self._every_column_kept = len(kept) == len(columns)
        self._kept, self._places = [columns[place] for place in kept], kept
        self._groups: list[Struct] = []
        out.write(MAGIC)

    def copy_group(self, group: int, added: pa.Table) -> None:
        """Copy a row group of the input; `added` has the added columns for its rows."""
        old = self._footer.items_of(FileField.ROW_GROUPS)[group]
        chunks = old.items_of(GroupField.CHUNKS)
        copies = [self._copy_chunk(self._source, chunk) for column in self._kept for chunk in chunks[column.chunks]]
        sorting = old.get(GroupField.SORTING) if self._every_column_kept else None
        self._add_group(copies, added, sorting)

    def write_rows(self, rows: pa.Table, added: pa.Table) -> None:
        """Write decoded rows of the kept columns as a row group; `added` has the added columns for them.

        Raises `CannotCopy` for a column that Arrow would write with another physical layout than the input has.
        """
        file, footer = encode(rows)
        for column, written in zip(self._kept, columns_of(footer), strict=True):
            if _layout(column) != _layout(written):
                raise CannotCopy(
                    "UNSUPPORTED",
                    f"bad rows cannot be removed, since column '{column.text}' cannot be encoded again as it is; keep them "
                    "in the output with --on-bad-row keep",
                )
        if not rows.num_rows:
            return
        (group,), (old, *_) = footer.items_of(FileField.ROW_GROUPS), self._footer.items_of(FileField.ROW_GROUPS)
        chunks = old.items_of(GroupField.CHUNKS)
        paths = [chunk.value(ChunkField.META)[MetaField.PATH] for column in self._kept for chunk in chunks[column.chunks]]
        encoded = zip(group.items_of(GroupField.CHUNKS), paths, strict=True)
        self._add_group([self._copy_chunk(file, chunk, path) for chunk, path in encoded], added, None)

    def close(self, entries: dict[str, str]) -> None:
        """Write the footer, with `entries` added to its key-value pairs."""
        _, encoded = encode(self._added.empty_table())
        new_columns = columns_of(encoded)
        footer = Struct(self._footer)
        root = Struct(footer.items_of(FileField.SCHEMA)[0])
        root.put(ElementField.CHILDREN, I32, len(self._kept) + len(new_columns))
        elements = [root, *[element for column in (*self._kept, *new_columns) for element in column.elements]]
        footer.put(FileField.SCHEMA, LIST, (STRUCT, elements))
        footer.put(FileField.ROWS, I64, self.rows)
        footer.put(FileField.ROW_GROUPS, LIST, (STRUCT, self._groups))
        kept = Kept(self._places, [column.name.decode() for column in self._kept])
        pairs = [*adapted_entries(footer.items_of(FileField.KEY_VALUES), kept, self._added)]
        pairs += [*[(key.encode(), value.encode()) for key, value in entries.items()]]
        footer.put(FileField.KEY_VALUES, LIST, (STRUCT, [_key_value(*pair) for pair in pairs]))
        orders = self._footer.items_of(FileField.COLUMN_ORDERS)
        if orders:
            orders = [order for column in self._kept for order in orders[column.chunks]]
            footer.put(FileField.COLUMN_ORDERS, LIST, (STRUCT, [*orders, *encoded.items_of(FileField.COLUMN_ORDERS)]))
        content = write_struct(footer)
        self._out.write(content + len(content).to_bytes(4, "little") + MAGIC)

    def _add_group(self, chunks: list[Struct], added: pa.Table, sorting: tuple[int, Any] | None) -> None:
        file, footer = encode(added)
        (encoded,) = footer.items_of(FileField.ROW_GROUPS)
        chunks += [self._copy_chunk(file, chunk) for chunk in encoded.items_of(GroupField.CHUNKS)]
        metas = [chunk.value(ChunkField.META) for chunk in chunks]
        group = Struct()
        group.put(GroupField.CHUNKS, LIST, (STRUCT, chunks))
        group.put(GroupField.BYTES, I64, sum(meta.value(MetaField.UNCOMPRESSED) for meta in metas))
        group.put(GroupField.ROWS, I64, added.num_rows)
        if sorting:
            group[GroupField.SORTING] = sorting
        group.put(GroupField.OFFSET, I64, chunks[0].value(ChunkField.FILE_OFFSET))
        group.put(GroupField.COMPRESSED, I64, sum(meta.value(MetaField.COMPRESSED) for meta in metas))
        if len(self._groups) <= MAX_ORDINAL:
            group.put(GroupField.ORDINAL, I16, len(self._groups))
        self._groups.append(group)
        self.rows += added.num_rows

    def _copy_chunk(self, source: BinaryIO, chunk: Struct, path: tuple[int, Any] | None = None) -> Struct:
        """Copy a chunk page by page; returns its entry for the new footer."""
        old = chunk.value(ChunkField.META)
        begin, first_data, uncompressed, values = self._out.tell(), None, 0, 0
        source.seek(_first_page(old))
        while values < old.value(MetaField.VALUES):
            header, head = _read_header(source)
            kind, count, size, unpacked = _page(header)
            body = _read(source, size)
            if len(body) != size:
                raise CannotCopy("CORRUPT_FILE", f"column '{path_of(old)}' is truncated")
            if kind == INDEX_PAGE:
                continue
            if PageField.CRC not in header:
                crc = zlib.crc32(body)
                header.put(PageField.CRC, I32, crc - (1 << 32) if crc >> 31 else crc)
                head = write_struct(header)
            if kind != DICTIONARY_PAGE:
                values += count
                first_data = self._out.tell() if first_data is None else first_data
            self._out.write(head)
            self._out.write(body)
            uncompressed += len(head) + unpacked
        meta = Struct(old)
        for field in (MetaField.INDEX_OFFSET, MetaField.DICTIONARY_OFFSET, MetaField.BLOOM_OFFSET, MetaField.BLOOM_LENGTH):
            meta.pop(field, None)
        first_data = begin if first_data is None else first_data
        if first_data != begin:
            meta.put(MetaField.DICTIONARY_OFFSET, I64, begin)
        meta.put(MetaField.DATA_OFFSET, I64, first_data)
        meta.put(MetaField.UNCOMPRESSED, I64, uncompressed)
        meta.put(MetaField.COMPRESSED, I64, self._out.tell() - begin)
        if path:
            meta[MetaField.PATH] = path
        copied = Struct()
        copied.put(ChunkField.FILE_OFFSET, I64, begin)
        copied.put(ChunkField.META, STRUCT, meta)
        return copied


def encode(table: pa.Table) -> tuple[BinaryIO, Struct]:
    """Write a table as a Parquet file in memory, in one row group; returns the file and its footer."""
    file = io.BytesIO()
    pq.write_table(
        table,
        file,
        row_group_size=max(1, table.num_rows),
        compression="zstd",
        use_dictionary=[field.name for field in table.schema if not pa.types.is_floating(field.type)],
        write_page_checksum=True,
        store_schema=False,
        store_decimal_as_integer=True,
    )
    return file, read_footer(file, file.seek(0, io.SEEK_END))


def _first_page(meta: Struct) -> int:
    """Return the offset of a chunk's first page. Without a dictionary some writers set its offset to 0, others omit it."""
    data, dictionary = meta.value(MetaField.DATA_OFFSET), meta.value(MetaField.DICTIONARY_OFFSET, 0)
    return dictionary if 0 < dictionary < data else data


def _read_header(source: BinaryIO) -> tuple[Struct, bytes]:
    """Read the page header at the file's position, which then is after it; returns the header and its bytes."""
    begin, size = source.tell(), HEADER_BYTES
    while True:
        source.seek(begin)
        found = _read(source, size)
        try:
            header, end = read_struct(found)
        except Truncated:
            if len(found) < size or size >= MAX_HEADER_BYTES:
                raise CannotCopy("CORRUPT_FILE", "a page's header is truncated") from None
            size *= 16
            continue
        except ThriftError as error:
            raise CannotCopy("CORRUPT_FILE", f"a page's header is damaged ({error})") from error
        source.seek(begin + end)
        return header, found[:end]


def _page(header: Struct) -> tuple[int, int, int, int]:
    """Return a page's type, its number of values (0 unless a data page), its size in the file and its size unpacked."""
    kind = header.value(PageField.TYPE)
    described = header.value(PageField.DATA_V2 if kind == DATA_PAGE_V2 else PageField.DATA)
    values = described.value(1) if isinstance(described, Struct) else 0
    numbers = (kind, values, header.value(PageField.COMPRESSED), header.value(PageField.UNCOMPRESSED))
    if not all(isinstance(number, int) and number >= 0 for number in numbers) or kind > DATA_PAGE_V2:
        raise CannotCopy("CORRUPT_FILE", "a page's header is damaged")
    return numbers


def _read(source: BinaryIO, count: int) -> bytes:
    try:
        return source.read(count)
    except OSError as error:
        raise CannotCopy("IO", error.strerror or str(error)) from error


def _layout(column: Column) -> list[tuple[int, ...]]:
    """Return what determines how a column's bytes are read: physical types, lengths, repetition, nesting."""
    return [tuple(element.value(field, 0) for field in LAYOUT) for element in column.elements]


def _key_value(key: bytes, value: bytes | None) -> Struct:
    pair = Struct()
    pair.put(1, BINARY, key)
    if value is not None:
        pair.put(2, BINARY, value)
    return pair
