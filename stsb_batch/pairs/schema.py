"""The data contract: the columns that a pair is read from, the columns and statuses that a score is written to."""

import difflib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

# The order is the code stored in a status array; a row counts as scored when its status begins with OK.
STATUSES = ("OK", "OK_TRUNCATED", "NULL_INPUT", "EMPTY_INPUT", "INVALID_UTF8", "NONFINITE", "OOM", "MODEL_ERROR")
OK, OK_TRUNCATED, NULL_INPUT, EMPTY_INPUT, INVALID_UTF8, NONFINITE, OOM, MODEL_ERROR = range(len(STATUSES))
CONTRACT_VERSION = 1
METADATA_PREFIX = "stsb_batch."  # of our own keys in a Parquet footer
LABEL_RANGE = (0.0, 5.0)
# What Unicode calls white space (White_Space), control (Cc), format (Cf) or invisible (Default_Ignorable_Code_Point)
_INVISIBLE = """
0-20 7F-A0 AD 34F 600-605 61C 6DD 70F 890-891 8E2 115F-1160 1680 17B4-17B5 180B-180F 2000-200F 2028-202F 205F-206F 3000 3164
FE00-FE0F FEFF FFA0 FFF0-FFFB 110BD 110CD 13430-1343F 1BCA0-1BCA3 1D173-1D17A E0001 E0020-E007F E0100-E01EF
"""
_RANGES = [[int(end, 16) for end in part.split("-")] for part in _INVISIBLE.split()]
BLANK = "".join(
    chr(code) for ends in _RANGES for code in range(ends[0], ends[-1] + 1)
)  # a text of only these counts as empty


@dataclass(frozen=True)
class Columns:
    """The columns that a job reads and writes.

    `label=None` means the column `label` if it is numeric. `keep` are the input columns that go to the output, None for
    all. Labels are on `label_scale` and are mapped to the scale of the scores.
    """

    left: str = "sentence1"
    right: str = "sentence2"
    label: str | None = None
    keep: tuple[str, ...] | None = None
    score: str = "score"
    label_scale: tuple[float, float] = LABEL_RANGE

    def named(self) -> dict[str, Any]:
        """Return the columns as a manifest records them."""
        columns = {"left": self.left, "right": self.right, "keep": self.keep, "score": self.score}
        return columns | {"label": self.labelled_by}

    @property
    def labelled_by(self) -> str:
        """The label column, "" for the default, with its scale where that differs from the scale of the scores."""
        scale = "" if self.label_scale == LABEL_RANGE else " on {!r} to {!r}".format(*self.label_scale)
        return f"{self.label or ''}{scale}"

    @property
    def texts(self) -> list[str]:
        return list(dict.fromkeys([self.left, self.right]))

    @property
    def status(self) -> str:
        return f"{self.score}_status"


def is_text(kind: pa.DataType) -> bool:
    """Say whether a column of this type holds text: any string layout, a dictionary of strings, or only nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def find_label(schema: pa.Schema, columns: Columns) -> str | None:
    """Return the name of a file's label column, None where it has none."""
    if columns.label is not None:
        return columns.label
    return "label" if schema.names.count("label") == 1 and is_number(schema.field("label").type) else None


def check_columns(schema: pa.Schema, columns: Columns) -> list[str]:
    """List why a file's columns cannot be used, one clause each; empty when they can."""
    problems = []
    for name, option in ((columns.left, "--left"), (columns.right, "--right")):
        problem = _missing_or_duplicate(schema, name, option)
        if problem is None and not is_text(schema.field(name).type):
            field = schema.field(name)
            problem = f"column '{name}' is {field.type}, not text; {_cast_hint(field)} text column with {option}"
        problems.append(problem)
    if columns.label is not None:
        problem = _missing_or_duplicate(schema, columns.label, "--label")
        if problem is None and not is_number(schema.field(columns.label).type):
            problem = f"label column '{columns.label}' is {schema.field(columns.label).type}, not a number"
        problems.append(problem)
    problems += [_missing_or_duplicate(schema, name, "--keep") for name in columns.keep or ()]
    return [problem for problem in problems if problem]


def _cast_hint(field: pa.Field) -> str:
    """Say how to get text from a column of bytes, which writers without type annotations produce."""
    if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type) or pa.types.is_binary_view(field.type):
        return f'cast it, in DuckDB with select * replace (decode("{field.name}") as "{field.name}"), or name a'
    return "name a"


def _missing_or_duplicate(schema: pa.Schema, name: str, option: str) -> str | None:
    count = schema.names.count(name)
    if count == 1:
        return None
    if count > 1:
        return f"column '{name}' exists {count} times; make the names distinct"
    lower = {other.lower(): other for other in schema.names}
    near = [lower[other] for other in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)]
    found = ", ".join(schema.names) or "no columns"
    hint = f"; similar: {', '.join(near)}" if near else ""
    return f"has no column '{name}' (found: {found}{hint}). Name it with {option}"


def kept_names(schema: pa.Schema, columns: Columns) -> list[str]:
    """Return the names of the input columns that go to the output, in input order."""
    return [name for name in schema.names if columns.keep is None or name in columns.keep]


def output_schema(schema: pa.Schema, columns: Columns) -> pa.Schema:
    """Return the input's kept fields, unchanged, followed by the score and its status."""
    kept = [field for field in schema if columns.keep is None or field.name in columns.keep]
    return pa.schema([*kept, *score_schema(columns)], metadata=schema.metadata)


def score_schema(columns: Columns) -> pa.Schema:
    """Return the fields that a job adds: the score and its status."""
    status = pa.field(columns.status, pa.dictionary(pa.int8(), pa.string()), nullable=False)
    return pa.schema([pa.field(columns.score, pa.float32()), status])


def status_array(codes: np.ndarray) -> pa.DictionaryArray:
    """Return status codes (rows,) as the dictionary column that is written."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(STATUSES, pa.string()))
