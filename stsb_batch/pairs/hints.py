"""Footer entries in which a writer describes the schema for one reader; unchanged, they would hide added columns.

Spark, pandas and Arrow trust their own entry more than Parquet's schema. Such an entry is rewritten where it can be parsed,
else dropped, and the reader falls back on Parquet's schema. All other entries are kept.
"""

import base64
import json
from dataclasses import dataclass

import pyarrow as pa

from stsb_batch.pairs.schema import METADATA_PREFIX
from stsb_batch.pairs.thrift import BINARY, Struct

ARROW, PANDAS, SPARK = b"ARROW:schema", b"pandas", b"org.apache.spark.sql.parquet.row.metadata"
# written by Spark before 1.3, parquet-avro, parquet-protobuf, parquet-thrift and Iceberg
DROPPED = {
    b"org.apache.spark.sql.parquet.row.attributes",
    b"parquet.avro.schema",
    b"avro.schema",
    b"parquet.proto.class",
    b"parquet.proto.descriptor",
    b"thrift.class",
    b"thrift.descriptor",
    b"iceberg.schema",
}
SPARK_TYPES = {pa.float32(): "float", pa.string(): "string", pa.int64(): "long"}


@dataclass(frozen=True)
class Kept:
    """The columns of a file that are kept: their positions in it and their names."""

    places: list[int]
    names: list[str]


def adapted_entries(pairs: list[Struct], kept: Kept, added: pa.Schema) -> list[tuple[bytes, bytes | None]]:
    """Return the footer's key-value pairs for a file that has the `kept` columns, followed by the fields of `added`."""
    entries = []
    for pair in pairs:
        key, value = pair.value(1, b""), pair.value(2)
        if key in DROPPED or key.startswith(METADATA_PREFIX.encode()):
            continue  # our own entries come from an earlier run
        if key in REWRITTEN:
            try:
                value = REWRITTEN[key](value, kept, added)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, pa.ArrowException):
                continue
        entries.append((key, value))
    return entries


def _arrow(value: bytes, kept: Kept, added: pa.Schema) -> bytes:
    """Add the new fields to the stored Arrow schema, and remove those of columns that are not kept."""
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(value)))
    metadata: dict[bytes, bytes | None] = {}
    for key, inner in (schema.metadata or {}).items():
        pair = Struct({1: (BINARY, key), 2: (BINARY, inner)})
        metadata |= dict(adapted_entries([pair], kept, added))
    fields = [schema.field(place) for place in kept.places]
    if [field.name for field in fields] != kept.names:
        raise ValueError("it is not the schema of this file")
    fields += added
    return base64.b64encode(pa.schema(fields, metadata=metadata or None).serialize().to_pybytes())


def _spark(value: bytes, kept: Kept, added: pa.Schema) -> bytes:
    """Add the new columns to Spark's schema, and remove those that are not kept."""
    struct = json.loads(value)
    fields = [field for field in struct["fields"] if field["name"] in kept.names]
    new = [
        {"name": field.name, "type": SPARK_TYPES[_plain(field)], "nullable": field.nullable, "metadata": {}}
        for field in added
    ]
    return json.dumps({**struct, "fields": [*fields, *new]}).encode()


def _pandas(value: bytes, kept: Kept, added: pa.Schema) -> bytes:
    """Add the new columns to pandas' metadata; raises `ValueError` where column names are not plain strings."""
    described = json.loads(value)
    if [index["pandas_type"] for index in described["column_indexes"]] not in ([], ["unicode"], ["string"]):
        raise ValueError("the columns have an index of several levels, or of another type")
    columns = [column for column in described["columns"] if (column.get("field_name") or column["name"]) in kept.names]
    indexes = [index for index in described["index_columns"] if isinstance(index, dict) or index in kept.names]
    added_columns = map(_pandas_column, added)
    return json.dumps({**described, "columns": [*columns, *added_columns], "index_columns": indexes}).encode()


def _pandas_column(field: pa.Field) -> dict[str, str | None]:
    kind = _plain(field)
    numpy_type = "object" if kind == pa.string() else kind.to_pandas_dtype().__name__
    return {
        "name": field.name,
        "field_name": field.name,
        "pandas_type": "unicode" if kind == pa.string() else numpy_type,
        "numpy_type": numpy_type,
        "metadata": None,
    }


def _plain(field: pa.Field) -> pa.DataType:
    return field.type.value_type if pa.types.is_dictionary(field.type) else field.type


REWRITTEN = {ARROW: _arrow, PANDAS: _pandas, SPARK: _spark}
