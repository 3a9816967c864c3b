"""What Spark wrote, scored and read again by Spark: every column as it was, and the scores."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stsb_batch.pairs.sandbox import Sandbox
from tests.pairs.odd_parquet import pass_through

pytestmark = pytest.mark.slow
COLUMNS = """
    array(id, null) l, named_struct('x', id, 'y', array(named_struct('z', 'q'))) s, map('k', id) m,
    cast(id as decimal(38, 10)) d, cast(id as decimal(9, 2)) d9, cast(id as tinyint) b, cast(id as float) f, binary('x') raw,
    timestamp '9999-12-31 23:59:59.999999' late, timestamp '0001-01-01 00:00:00' early, timestamp_ntz '2020-01-01' n,
    date '1500-02-28' day, cast(null as string) nothing, interval '1' month iv, cast('c' as char(3)) c3
"""


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory):
    """Start Spark in this machine, on loopback, without its pages. Needs Java and the extra `slow`."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.session.timeZone": "Europe/Berlin",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    builder = SparkSession.builder.master("local[1]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.mark.parametrize("times", ["INT96", "TIMESTAMP_MICROS", "TIMESTAMP_MILLIS"])
@pytest.mark.parametrize("pages", ["v1", "v2"])
@pytest.mark.parametrize("rebase", ["CORRECTED", "LEGACY"])
def test_spark_reads_what_it_wrote(times: str, pages: str, rebase: str, spark, tmp_path: Path):
    """Kind: columns that their own engine cannot see or select any more. Types, values and scores are all there."""
    spark.conf.set("spark.sql.parquet.outputTimestampType", times)
    for kind in ("datetime", "int96"):
        spark.conf.set(f"spark.sql.parquet.{kind}RebaseModeInWrite", rebase)
    texts = "concat('left ', id) sentence1, concat('right ', id) sentence2"
    frame = spark.sql(f"select id, {texts}, {COLUMNS} from range(5)")  # noqa: S608 - of constants
    frame.coalesce(1).write.option("parquet.writer.version", pages).parquet(str(tmp_path / "in"))
    (path,) = (tmp_path / "in").glob("part-*.parquet")
    output = tmp_path / "scored.parquet"
    with Sandbox() as sandbox:
        pass_through(path, output, sandbox)
    before, after = (spark.read.parquet(str(place)) for place in (path, output))
    assert after.schema.fields[: len(before.schema)] == before.schema.fields
    assert [field.name for field in after.schema.fields[len(before.schema) :]] == ["score", "score_status"]
    texts = [f"cast({name} as string)" for name in before.columns]  # Python has no place for all values
    assert after.selectExpr(*texts).collect() == before.selectExpr(*texts).collect()
    assert [row.score for row in after.select("score").collect()] == [0.0, 1.0, 2.0, 3.0, 4.0]
    types = [[schema.column(place).physical_type for place in range(len(schema))] for schema in map(_schema, (path, output))]
    assert types[1][: len(types[0])] == types[0]


def _schema(path: Path) -> pq.ParquetSchema:
    return pq.read_metadata(path).schema
