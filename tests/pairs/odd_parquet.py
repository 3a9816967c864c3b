"""Make odd Parquet files: types, annotations, encodings, codecs, page versions, repetition, nesting, names, by a seed.

`python -m tests.pairs.odd_parquet 3000` passes so many through and prints what became of them (a wide run).
"""

import datetime as dt
import decimal
import io
import random
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.errors import BadFileError
from stsb_batch.pairs.footer import ElementField, FileField, read_footer
from stsb_batch.pairs.quarantine import RowQuarantine
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.pairs.schema import Columns
from stsb_batch.pairs.scored_file import ScoredFile
from stsb_batch.pairs.source import Shard, inspect_file, probe_rows, with_digest
from stsb_batch.pairs.thrift import I32, STRUCT, Struct, write_struct

CODECS = ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]
ENCODINGS = {
    pa.int32(): ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
    pa.int64(): ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
    pa.float32(): ["PLAIN", "BYTE_STREAM_SPLIT"],
    pa.float64(): ["PLAIN", "BYTE_STREAM_SPLIT"],
    pa.string(): ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"],
    pa.binary(): ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"],
    pa.bool_(): ["PLAIN", "RLE"],
}
NAMES = ["id", "Straße", "a b", "a.b", "quote'\"", "ünï", "名前", "very " * 20, "x,y", "select", "UPPER", "tab\there", "🙂"]
# annotations that Arrow does not write: (physical type, length, converted type, number of the logical type, value maker)
ANNOTATED: dict[str, tuple[pa.DataType, int | None, int | None]] = {
    "ENUM": (pa.binary(), 4, 4),
    "JSON": (pa.binary(), 19, 11),
    "BSON": (pa.binary(), 20, 12),
    "INTERVAL": (pa.binary(12), 21, None),
    "UUID": (pa.binary(16), None, 14),
    "UNKNOWN_LOGICAL": (pa.int32(), None, 33),
}
DUCKDB = {
    "u": "uuid()",
    "j": "json('{\"a\": ' || i || '}')",
    "iv": "interval (i) month + interval (i) day + interval (i) second",
    "tz": "(time '01:02:03' + interval (i) second)::timetz",
    "e": "(case when i % 2 = 0 then 'red' else 'blue' end)::enum('red', 'blue')",
    "ts": "timestamptz '2020-01-01 00:00:00+00' + interval (i) day",
    "s": "make_timestamp_ns(i)",
    "h": "(i % 200)::utinyint",
    "b": "('a' || i)::blob",
    "l": "[i, null, i + 1]",
    "st": "{'x': i, 'y': [{'z': 'q' || i}]}",
    "m": "map {'k' || i: i}",
    "d": "(i / 7)::decimal(38, 10)",
    "bit": "bitstring('0101', 8)",
}


def leaf_values(rng: random.Random, rows: int) -> pa.Array:
    """Make a column of a random simple type, with nulls or without."""
    day = dt.date(1600, 1, 1)
    makers: list[tuple[pa.DataType, Callable]] = [
        *[(kind, lambda: rng.randrange(100)) for kind in (pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32())],
        *[(kind, lambda: rng.randrange(1 << 31)) for kind in (pa.uint32(), pa.int64(), pa.uint64())],
        *[(kind, rng.random) for kind in (pa.float32(), pa.float64())],
        (pa.float16(), lambda: np.float16(rng.random())),
        (pa.bool_(), lambda: rng.random() < 0.5),
        *[(kind, lambda: f"w{rng.randrange(20)}") for kind in (pa.string(), pa.large_string(), pa.string_view())],
        *[(kind, lambda: rng.randbytes(rng.randrange(9))) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())],
        (pa.binary(7), lambda: rng.randbytes(7)),
        (pa.uuid(), lambda: uuid.UUID(int=rng.getrandbits(128)).bytes),
        *[(kind, lambda: day + dt.timedelta(rng.randrange(10**6))) for kind in (pa.date32(), pa.date64())],
        (pa.time32("ms"), lambda: dt.time(1, 2, rng.randrange(60))),
        *[(pa.time64(unit), lambda: dt.time(1, 2, 3, rng.randrange(999))) for unit in ("us", "ns")],
        *[(pa.timestamp(unit), lambda: rng.randrange(10**9)) for unit in ("s", "ms", "us", "ns")],
        *[(pa.timestamp("us", zone), lambda: rng.randrange(10**9)) for zone in ("UTC", "Europe/Berlin", "+05:30")],
        *[(pa.duration(unit), lambda: rng.randrange(10**6)) for unit in ("s", "ns")],
        *[(pa.decimal128(digits, 2), lambda: decimal.Decimal(rng.randrange(10**4)) / 100) for digits in (5, 12, 30)],
        (pa.decimal256(50, 3), lambda: decimal.Decimal(rng.randrange(10**4)) / 1000),
        (pa.dictionary(pa.int8(), pa.string()), lambda: f"d{rng.randrange(5)}"),
        (pa.null(), lambda: None),
    ]
    kind, make = rng.choice(makers)
    gaps = rng.choice([0.0, 0.3, 1.0])
    values = [None if rng.random() < gaps else make() for _ in range(rows)]
    if kind == pa.uuid():
        return pa.ExtensionArray.from_storage(kind, pa.array(values, pa.binary(16)))
    return pa.array(values, kind)


def column_values(rng: random.Random, rows: int, depth: int = 0) -> pa.Array:
    """Make a column: simple, or a list, struct or map of others."""
    shape = rng.choice(["leaf"] * 5 + ["list", "large_list", "struct", "fixed", "map"]) if depth < 3 else "leaf"
    if shape == "leaf":
        return leaf_values(rng, rows)
    if shape == "struct":
        parts = [column_values(rng, rows, depth + 1) for _ in range(rng.randrange(1, 4))]
        return pa.StructArray.from_arrays(parts, [f"f{place}" for place in range(len(parts))])
    if shape == "fixed":
        return pa.FixedSizeListArray.from_arrays(column_values(rng, rows * 2, 3), 2)
    counts = [rng.randrange(3) for _ in range(rows)]
    ends = np.concatenate([[0], np.cumsum(counts)])
    values = column_values(rng, int(ends[-1]), depth + 1)
    if shape == "map":
        keys = pa.array([f"k{place}" for place in range(len(values))], pa.string())
        return pa.MapArray.from_arrays(pa.array(ends, pa.int32()), keys, values)
    if shape == "large_list":
        return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), values)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)


def arrow_file(rng: random.Random, path: Path) -> None:
    """Write a file with pyarrow, with random columns and options."""
    rows = rng.choice([0, 1, 7, 100, 700])
    table = _texts(rng, rows)
    for name in rng.sample(NAMES, rng.randrange(1, 6)):
        values = column_values(rng, rows)
        required = values.null_count == 0 and not pa.types.is_null(values.type) and rng.random() < 0.3
        table = table.append_column(pa.field(name, values.type, nullable=not required), values)
    encodings = {}
    for field in table.schema:
        if field.type in ENCODINGS and rng.random() < 0.5:
            encodings[field.name] = rng.choice(ENCODINGS[field.type])
    table = table.replace_schema_metadata({"owner": "somebody", "bytes": b"\xff\xfe"} if rng.random() < 0.5 else None)
    pq.write_table(
        table,
        path,
        row_group_size=rng.choice([1, 50, 10**6]) if rows else None,
        version=rng.choice(["1.0", "2.4", "2.6"]),
        compression=rng.choice(CODECS),
        data_page_version=rng.choice(["1.0", "2.0"]),
        data_page_size=rng.choice([64, 1 << 20]),
        use_dictionary=False if encodings else rng.random() < 0.5,
        column_encoding=encodings or None,
        write_page_checksum=rng.random() < 0.5,
        write_page_index=rng.random() < 0.5,
        write_statistics=rng.random() < 0.7,
        store_schema=rng.random() < 0.7,
        use_deprecated_int96_timestamps=rng.random() < 0.2,
        store_decimal_as_integer=rng.random() < 0.3,
        coerce_timestamps=None,
    )


def duckdb_file(rng: random.Random, path: Path) -> None:
    """Write a file with DuckDB, whose types Arrow knows in part only."""
    rows = rng.choice([1, 10, 300])
    chosen = rng.sample(sorted(DUCKDB), rng.randrange(1, 8))
    columns = ", ".join(f"{DUCKDB[name]} as {name}" for name in chosen)
    texts = "'left ' || i as sentence1, 'right ' || (i % 3) as sentence2"
    version, codec = rng.choice(["V1", "V2"]), rng.choice(["snappy", "zstd", "gzip", "lz4_raw", "uncompressed", "brotli"])
    query = f"select {texts}, {columns} from range({rows}) t(i)"  # noqa: S608 - of constants
    options = f"format parquet, parquet_version {version}, codec {codec}, row_group_size {rng.choice([2048, 122880])}"
    duckdb.sql(f"copy ({query}) to '{path}' ({options})")


def annotated_file(rng: random.Random, path: Path) -> None:
    """Write a file with pyarrow, then annotate columns in its footer as other writers do."""
    rows = rng.choice([1, 20])
    table, kinds = _texts(rng, rows), rng.sample(sorted(ANNOTATED), 3)
    for kind in kinds:
        storage = ANNOTATED[kind][0]
        values = [None if rng.random() < 0.3 else _value(rng, storage) for _ in range(rows)]
        table = table.append_column(kind, pa.array(values, storage))
    pq.write_table(
        table, path, store_schema=False, compression=rng.choice(CODECS), data_page_version=rng.choice(["1.0", "2.0"])
    )
    rewrite_footer(path, annotate)


def _value(rng: random.Random, storage: pa.DataType) -> int | bytes:
    if storage == pa.int32():
        return rng.randrange(9)
    return b'{"a": 1}' if storage == pa.binary() else rng.randbytes(storage.byte_width)


def annotate(footer: Struct) -> None:
    """Give the columns that are named like an annotation that annotation."""
    for element in footer.items_of(FileField.SCHEMA):
        _, converted, logical = ANNOTATED.get(element.value(ElementField.NAME).decode(), (None, None, None))
        if converted is not None:
            element.put(ElementField.CONVERTED, I32, converted)
        if logical is not None:
            element.put(ElementField.LOGICAL, STRUCT, Struct({logical: (STRUCT, Struct())}))


def rewrite_footer(path: Path, change: Callable[[Struct], None]) -> None:
    """Change a file's footer in place of its own."""
    content = path.read_bytes()
    footer = read_footer(io.BytesIO(content), len(content))
    change(footer)
    length = int.from_bytes(content[-8:-4], "little")
    new = write_struct(footer)
    path.write_bytes(content[: -8 - length] + new + len(new).to_bytes(4, "little") + b"PAR1")


def polars_file(rng: random.Random, path: Path) -> None:
    """Write a file with Polars."""
    rows = rng.choice([0, 5, 200])
    frame = pl.DataFrame(
        {
            "sentence1": [f"l{row}" for row in range(rows)],
            "sentence2": [f"r{row % 5}" for row in range(rows)],
            "cat": pl.Series([f"c{row % 4}" for row in range(rows)], dtype=pl.Categorical),
            "i128": pl.Series(list(range(rows)), dtype=pl.Int64),
            "dur": pl.Series(list(range(rows)), dtype=pl.Duration("us")),
            "nested": pl.Series([[{"a": row}] for row in range(rows)], dtype=pl.List(pl.Struct({"a": pl.Int32}))),
        }
    )
    codec = rng.choice(["lz4", "uncompressed", "snappy", "gzip", "zstd"])
    frame.write_parquet(path, compression=codec, row_group_size=rng.choice([3, 1000]), statistics=rng.random() < 0.5)


MAKERS = (arrow_file, arrow_file, duckdb_file, annotated_file, polars_file)


def _texts(rng: random.Random, rows: int) -> pa.Table:
    kinds = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
    sides = {name: [f"{name} {rng.randrange(50)}" for _ in range(rows)] for name in ("sentence1", "sentence2")}
    return pa.table({name: pa.array(values, pa.string()).cast(rng.choice(kinds)) for name, values in sides.items()})


def make_odd_file(seed: int, folder: Path) -> Path:
    """Write the odd file of a seed."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    path = folder / f"odd-{seed}.parquet"
    while True:
        try:
            rng.choice(MAKERS)(rng, path)
            return path
        except pa.ArrowException:  # types that do not go with the options
            path.unlink(missing_ok=True)


def pass_through(path: Path, output: Path, sandbox: Sandbox, bad: Callable[[int], np.ndarray] | None = None) -> None:
    """Do with a file what a job does, but for the scores: check it, decode it in the sandbox, copy it, add scores.

    `bad(rows)` (rows,) says which rows go to quarantine, beside the output. Raises `BadFileError`.
    """
    sandbox.probe_footer(path, path.name)
    source = probe_rows(with_digest(inspect_file(path, Path(path.name)), {}), None, sandbox)
    shard = Shard(source, tuple(range(len(source.row_groups))), Path(output.name), "")
    taken = np.zeros(source.rows, bool) if bad is None else bad(source.rows)
    scores = np.where(taken, np.nan, np.arange(source.rows)).astype(np.float32)
    with path.open("rb") as file, output.open("xb") as out, RowQuarantine(shard, file, output) as quarantine:
        scored = ScoredFile(out, file, shard, Columns(), None if bad is None else quarantine)
        for first in range(0, source.rows, 64):
            scored.add(scores[first : first + 64], np.where(taken, 2, 0)[first : first + 64].astype(np.int8))
        scored.close({})
        quarantine.close()


def readings(path: Path, leave_out: int = 0) -> dict[str, object]:
    """Read a file with three readers; each gives names, types and values, or says that it cannot."""
    return {reader.__name__: reader(path, leave_out) for reader in (_by_pyarrow, _by_duckdb, _by_polars)}


def _by_pyarrow(path: Path, leave_out: int) -> object:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        return type(error).__name__
    table = table.select(list(range(table.num_columns - leave_out)))
    schema = pq.read_metadata(path).schema
    leaves = len(schema) - leave_out  # the annotations, which Arrow's types do not all show
    annotations = [str(schema.column(place).logical_type) for place in range(leaves)]
    return [str(field) for field in table.schema], [column.to_pylist() for column in table.columns], annotations


def _by_duckdb(path: Path, leave_out: int) -> object:
    try:
        relation = duckdb.read_parquet(str(path))
        width = len(relation.columns) - leave_out
        texts = relation.project("columns(*)::varchar")  # Python has no place for all values
        return relation.columns[:width], list(map(str, relation.types[:width])), [row[:width] for row in texts.fetchall()]
    except duckdb.Error as error:
        return type(error).__name__


def _by_polars(path: Path, leave_out: int) -> object:
    try:
        frame = pl.read_parquet(path, memory_map=False)
        frame = frame.select(pl.nth(range(frame.width - leave_out)))
        return frame.schema, frame.to_dicts()
    except BaseException as error:  # noqa: BLE001 - its panics are no exceptions
        return type(error).__name__


def main() -> None:
    """Pass many files through; print what became of them."""
    count, found = int(sys.argv[1]), Counter()
    with tempfile.TemporaryDirectory() as name, Sandbox() as sandbox:
        folder = Path(name)
        for seed in range(count):
            path, output = make_odd_file(seed, folder), folder / f"out-{seed}.parquet"
            try:
                pass_through(path, output, sandbox)
            except BadFileError as error:
                found[f"refused: {error.reason}"] += 1
                print(seed, error)
            else:
                for reader, before in readings(path).items():
                    same = repr(before) == repr(readings(output, 2)[reader])
                    kind = "same" if not isinstance(before, str) else "cannot read it either"
                    found[f"{reader[4:]}: {kind if same else 'DIFFERENT'}"] += 1
                    if not same:
                        print(seed, reader, "DIFFERENT")
            for file in (path, output):
                file.unlink(missing_ok=True)
    for line in sorted(found.items()):
        print(*line)


if __name__ == "__main__":
    main()


TEXTS = {"sentence1": ["a", "b", "c"], "sentence2": ["d", "e", "f"]}


def write(path: Path, columns: dict, **options) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def second_is_bad(rows: int) -> np.ndarray:
    return np.arange(rows) == 1


def same_readings(before: Path, after: Path) -> None:
    expected, found = readings(before), readings(after, leave_out=2)
    for reader, reading in expected.items():
        assert repr(found[reader]) == repr(reading), reader
