"""Which command converts a file to Parquet, judged by its first bytes and its name. Converts nothing itself."""

import zlib
from pathlib import Path

from stsb_batch.errors import escape_control

HEAD_BYTES = 4_096
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
DUCKDB = "duckdb -c \"copy (from {function}('{path}'{options})) to '{target}'\""
PYTHON = "python -c \"import pyarrow as pa, pyarrow.orc, pyarrow.parquet as pq; pq.write_table({function}, '{target}')\""
COMMANDS = {  # by the first bytes of a file
    b"Obj\x01": (DUCKDB, "read_avro"),
    b"PK\x03\x04": (DUCKDB, "read_xlsx"),
    b"ARROW1": (PYTHON, "pa.ipc.open_file('{path}').read_all()"),
    b"ORC": (PYTHON, "pa.orc.read_table('{path}')"),
}


def conversion(path: Path) -> str | None:
    """Return "Convert it: " and the command for a CSV, JSON or other known file, without a full stop; else None."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    command, function, options = _command(head, path)
    if function is None:
        return None
    target = path.with_suffix(".parquet")
    target = target if target != path else path.with_suffix(".converted.parquet")
    names = {"path": escape_control(path).replace("'", "''"), "target": escape_control(target).replace("'", "''")}
    return "Convert it: " + command.format(function=function.format(**names), options=options, **names)


def _command(head: bytes, path: Path) -> tuple[str, str | None, str]:
    for magic, (command, function) in COMMANDS.items():
        if head.startswith(magic):
            return command, function, ""
    if head.startswith(ZSTD):
        return DUCKDB, _by_name(path), ", compression = 'zstd'"
    if head.startswith(GZIP):
        try:
            return (
                DUCKDB,
                _by_text(zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES), path),
                ", compression = 'gzip'",
            )
        except zlib.error:
            return DUCKDB, None, ""
    return DUCKDB, _by_text(head, path), ""


def _by_text(head: bytes, path: Path) -> str | None:
    text = head.decode(errors="replace").lstrip("\ufeff \t\r\n")
    is_text = (
        text and not any(ord(character) < ord("\t") for character in text) and text.count("\ufffd") <= 1
    )  # one may be cut
    return ("read_json" if text[0] in "{[" else _by_name(path)) if is_text else None


def _by_name(path: Path) -> str:
    return "read_json" if ".json" in path.name.lower() or ".ndjson" in path.name.lower() else "read_csv"
