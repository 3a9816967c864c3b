"""Footer entries that describe the schema for one reader: they show the new columns or go."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.pairs.footer import FileField
from stsb_batch.pairs.hints import PANDAS, SPARK
from stsb_batch.pairs.thrift import BINARY, Struct
from tests.pairs.odd_parquet import TEXTS, rewrite_footer, write


def test_spark_sees_the_new_columns(tmp_path: Path, passed):
    """Kind: a footer entry that describes the schema for one reader. Spark's gets the new columns, its other keys stay."""
    fields = [{"name": name, "type": "string", "nullable": True, "metadata": {"k": 1}} for name in TEXTS]
    entries = {
        SPARK: json.dumps({"type": "struct", "fields": fields}),
        b"org.apache.spark.legacyINT96": b"",
        b"mine": b"\xff",
    }
    pq.write_table(pa.table(TEXTS).replace_schema_metadata(entries), path := tmp_path / "in.parquet")
    metadata = pq.read_metadata(passed(path)).metadata
    described = json.loads(metadata[SPARK])["fields"]
    assert described[:2] == fields
    assert [(field["name"], field["type"], field["nullable"]) for field in described[2:]] == [
        ("score", "float", True),
        ("score_status", "string", False),
    ]
    assert (metadata[b"org.apache.spark.legacyINT96"], metadata[b"mine"]) == (b"", b"\xff")
    assert pq.read_schema(tmp_path / "scored.parquet").metadata[SPARK] == metadata[SPARK]


@pytest.mark.parametrize("key", [b"parquet.avro.schema", b"iceberg.schema", b"org.apache.spark.sql.parquet.row.metadata"])
def test_a_description_that_cannot_be_rewritten_is_dropped(tmp_path: Path, passed, key: bytes):
    """Kind: a footer entry that would hide the new columns. What cannot be extended goes; Parquet's schema is left."""
    pq.write_table(pa.table(TEXTS).replace_schema_metadata({key: b"{}"}), path := tmp_path / "in.parquet")
    assert key not in pq.read_metadata(passed(path)).metadata


def test_entries_beside_the_arrow_schema_stay(tmp_path: Path, passed):
    """Kind: footer entries that Arrow does not show where there is an ARROW:schema."""
    path = write(tmp_path / "in.parquet", TEXTS)
    rewrite_footer(
        path,
        lambda footer: footer.items_of(FileField.KEY_VALUES).append(Struct({1: (BINARY, b"owner"), 2: (BINARY, b"us")})),
    )
    assert pq.read_metadata(passed(path)).metadata[b"owner"] == b"us"


def test_pandas_reads_columns_of_several_levels(tmp_path: Path, passed):
    """Kind: pandas' own description. With column names of two levels it is dropped, else extended, and the index stays."""
    frame = pd.DataFrame(TEXTS | {"n": [1, 2, 3]}, index=pd.Index(["x", "y", "z"], name="key"))
    frame.to_parquet(path := tmp_path / "plain.parquet")
    read = pd.read_parquet(passed(path))
    assert (list(read.index), list(read.columns)) == (
        ["x", "y", "z"],
        ["sentence1", "sentence2", "n", "score", "score_status"],
    )
    (tmp_path / "scored.parquet").unlink()
    levels = pa.table({**TEXTS, "('n', 'x')": [1, 2, 3]})
    described = {
        "index_columns": [],
        "column_indexes": [{"pandas_type": "unicode"}, {"pandas_type": "unicode"}],
        "columns": [],
    }
    pq.write_table(levels.replace_schema_metadata({PANDAS: json.dumps(described)}), path := tmp_path / "levels.parquet")
    assert list(pd.read_parquet(passed(path)).columns)[-2:] == ["score", "score_status"]
