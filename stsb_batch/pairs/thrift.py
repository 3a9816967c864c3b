"""Thrift's compact protocol, as Parquet uses it for footers and page headers: read a struct, write it again.

Every value keeps its wire type, so that fields unknown to this package (from later versions of Parquet or other writers)
are preserved. What the fields mean is known to `footer.py` only.
Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

import struct
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
INTEGERS = (I16, I32, I64)
MAX_DEPTH = 64  # structs inside structs; Parquet's own nest six deep


class ThriftError(ValueError):
    """Bytes that are not a struct of the compact protocol."""


class Truncated(ThriftError):
    """The bytes end inside the struct."""


class Struct(dict[int, tuple[int, Any]]):
    """The fields of a struct, in wire order: field id -> (wire type, value).

    A list's value is (type of its elements, elements). Booleans have the types TRUE and FALSE.
    """

    def value(self, field: int, default: Any = None) -> Any:
        """Return a field's value, `default` where it is not set."""
        found = self.get(field)
        return default if found is None else found[1]

    def items_of(self, field: int) -> list[Any]:
        """Return the elements of a list field, empty where it is not set."""
        found = self.get(field)
        return [] if found is None else found[1][1]

    def put(self, field: int, kind: int, value: Any) -> None:
        """Set a field to a value of a wire type."""
        self[field] = (kind, value)


def read_struct(buffer: bytes, position: int = 0) -> tuple[Struct, int]:
    """Read the struct that begins at `position`; returns it and the position after it. Raises `ThriftError`."""
    try:
        return _read_struct(buffer, position, 0)
    except IndexError:
        raise Truncated("the struct is truncated") from None


def write_struct(fields: Struct) -> bytes:
    """Return the struct's bytes."""
    out = bytearray()
    _write_struct(out, fields)
    return bytes(out)


def _read_varint(buffer: bytes, position: int) -> tuple[int, int]:
    byte = buffer[position]
    position += 1
    if byte < 0x80:
        return byte, position
    value, shift = byte & 0x7F, 7
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ThriftError("an integer of more than 64 bits")


def _read_struct(buffer: bytes, position: int, depth: int) -> tuple[Struct, int]:
    if depth > MAX_DEPTH:
        raise ThriftError(f"structs nested more than {MAX_DEPTH} deep")
    fields, field = Struct(), 0
    while True:
        byte = buffer[position]
        position += 1
        if not byte:
            return fields, position
        kind = byte & 0x0F
        if byte >> 4:
            field += byte >> 4
        else:
            number, position = _read_varint(buffer, position)
            field = (number >> 1) ^ -(number & 1)
        if kind <= FALSE:
            fields[field] = (kind, kind == TRUE)
        else:
            value, position = _read_value(buffer, position, kind, depth)
            fields[field] = (kind, value)


def _read_value(buffer: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in INTEGERS:
        number, position = _read_varint(buffer, position)
        return (number >> 1) ^ -(number & 1), position
    if kind == BINARY:
        length, position = _read_varint(buffer, position)
        return _bytes(buffer, position, length), position + length
    if kind == STRUCT:
        return _read_struct(buffer, position, depth + 1)
    if kind in (LIST, SET):
        return _read_list(buffer, position, depth)
    if kind in (BYTE, TRUE, FALSE):  # the last two as elements of a list
        return buffer[position], position + 1
    if kind == DOUBLE:
        return struct.unpack("<d", _bytes(buffer, position, 8))[0], position + 8
    raise ThriftError(f"a value of type {kind}, which Parquet does not use")


def _bytes(buffer: bytes, position: int, length: int) -> bytes:
    if position + length > len(buffer):
        raise Truncated("the struct is truncated")
    return buffer[position : position + length]


def _read_list(buffer: bytes, position: int, depth: int) -> tuple[tuple[int, list[Any]], int]:
    byte = buffer[position]
    position += 1
    size, kind = byte >> 4, byte & 0x0F
    if size == 0x0F:
        size, position = _read_varint(buffer, position)
    if size > len(buffer) - position:  # each element takes a byte at least
        raise Truncated("the struct is truncated")
    values = []
    for _ in range(size):
        value, position = _read_value(buffer, position, kind, depth)
        values.append(value)
    return (kind, values), position


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)


def _zigzag(value: int) -> int:
    return (value << 1) ^ (value >> 63)


def _write_struct(out: bytearray, fields: Struct) -> None:
    last = 0
    for field in sorted(fields):
        kind, value = fields[field]
        if 0 < field - last <= 0x0F:
            out.append((field - last) << 4 | kind)
        else:
            out.append(kind)
            _write_varint(out, _zigzag(field))
        last = field
        if kind > FALSE:
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in INTEGERS:
        _write_varint(out, _zigzag(value))
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in (LIST, SET):
        element, values = value
        out.append(min(len(values), 0x0F) << 4 | element)
        if len(values) >= 0x0F:
            _write_varint(out, len(values))
        for item in values:
            _write_value(out, element, item)
    elif kind == DOUBLE:
        out += struct.pack("<d", value)
    else:
        out.append(value)
