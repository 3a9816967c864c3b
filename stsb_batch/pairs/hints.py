"""Footer entries in which a writer describes the schema for one reader: they would hide or deny new columns.

Spark, pandas and Arrow believe their entry rather than Parquet's schema. Those are rewritten where that is certain, else
dropped, and the reader falls back on Parquet's schema. All other entries stay as they are.
"""

import base64
import json
from dataclasses import dataclass

import pyarrow as pa

from stsb_batch.pairs.schema import METADATA_PREFIX
from stsb_batch.pairs.thrift import BINARY, Struct

ARROW, PANDAS, SPARK = b"ARROW:schema", b"pandas", b"org.apache.spark.sql.parquet.row.metadata"
# of Spark before 1.3, parquet-avro, parquet-protobuf, parquet-thrift, Iceberg
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
    """The columns that are kept of a file: their places in it and their names."""

    places: list[int]
    names: list[str]


def adapted_entries(pairs: list[Struct], kept: Kept, added: pa.Schema) -> list[tuple[bytes, bytes | None]]:
    """Return the key-value pairs of a footer for a file of some kept columns and the fields of `added` behind them."""
    entries = []
    for pair in pairs:
        key, value = pair.value(1, b""), pair.value(2)
        if key in DROPPED or key.startswith(METADATA_PREFIX.encode()):
            continue  # entries of ours are those of an earlier scoring
        if key in REWRITTEN:
            try:
                value = REWRITTEN[key](value, kept, added)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, pa.ArrowException):
                continue
        entries.append((key, value))
    return entries


def _arrow(value: bytes, kept: Kept, added: pa.Schema) -> bytes:
    """Add the new fields to the Arrow schema as it is stored, and take those out that are not there."""
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(value)))
    metadata = {}
    for key, inner in (schema.metadata or {}).items():
        pair = Struct({1: (BINARY, key), 2: (BINARY, inner)})
        metadata |= dict(adapted_entries([pair], kept, added))
    fields = [schema.field(place) for place in kept.places]
    if [field.name for field in fields] != kept.names:
        raise ValueError("it is not the schema of this file")
    fields += added
    return base64.b64encode(pa.schema(fields, metadata=metadata or None).serialize().to_pybytes())


def _spark(value: bytes, kept: Kept, added: pa.Schema) -> bytes:
    """Add the new columns to Spark's schema, and take those out that are not there."""
    struct = json.loads(value)
    fields = [field for field in struct["fields"] if field["name"] in kept.names]
    new = [
        {"name": field.name, "type": SPARK_TYPES[_plain(field)], "nullable": field.nullable, "metadata": {}}
        for field in added
    ]
    return json.dumps({**struct, "fields": [*fields, *new]}).encode()


def _pandas(value: bytes, kept: Kept, added: pa.Schema) -> bytes:
    """Add the new columns to pandas' description; raises `ValueError` where column names are not plain text."""
    described = json.loads(value)
    if [index["pandas_type"] for index in described["column_indexes"]] not in ([], ["unicode"], ["string"]):
        raise ValueError("the columns have an index of several levels, or of another type")
    columns = [column for column in described["columns"] if (column.get("field_name") or column["name"]) in kept.names]
    indexes = [index for index in described["index_columns"] if isinstance(index, dict) or index in kept.names]
    added_columns = map(_pandas_column, added)
    return json.dumps({**described, "columns": [*columns, *added_columns], "index_columns": indexes}).encode()


def _pandas_column(field: pa.Field) -> dict:
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
