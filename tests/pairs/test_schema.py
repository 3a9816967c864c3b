"""The data contract."""

import pyarrow as pa
import pytest

from stsb_batch.pairs.schema import Columns, check_columns, find_label, output_schema

TEXT = [("sentence1", pa.string()), ("sentence2", pa.string())]


def test_missing_column_names_those_found_and_the_option():
    """A missing text column is told with the columns there are and the option that helps."""
    [problem] = check_columns(
        pa.schema([("id", pa.int64()), ("sentence1", pa.string()), ("sentence_2", pa.string())]), Columns()
    )
    assert problem == (
        "has no column 'sentence2' (found: id, sentence1, sentence_2; similar: sentence_2, sentence1). Name it with --right"
    )
    problems = check_columns(pa.schema([("Sentence1", pa.string()), ("SENTENCE2", pa.string())]), Columns())
    assert [problem.partition("similar: ")[2].split(",")[0] for problem in problems] == ["Sentence1", "SENTENCE2"]


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.null()],
    ids=str,
)
def test_text_layouts_are_accepted(kind: pa.DataType):
    """Every string layout counts as text."""
    assert check_columns(pa.schema([("sentence1", kind), ("sentence2", kind)]), Columns()) == []


@pytest.mark.parametrize("kind", [pa.binary(), pa.int64(), pa.bool_(), pa.list_(pa.string()), pa.date32()], ids=str)
def test_other_types_are_refused(kind: pa.DataType):
    """A text column of another type is refused, never cast."""
    [problem] = check_columns(pa.schema([("sentence1", kind), ("sentence2", pa.string())]), Columns())
    assert f"is {kind}, not text" in problem


def test_double_text_column_is_refused_but_a_double_other_passes():
    """Doubled names matter only for the columns that are read."""
    assert "2 times" in check_columns(pa.schema([*TEXT, ("sentence1", pa.string())]), Columns())[0]
    assert check_columns(pa.schema([*TEXT, ("x", pa.int8()), ("x", pa.int8())]), Columns()) == []


def test_label_is_found_only_where_it_is_a_number():
    """A numeric column `label` is taken by itself, a text one is not."""
    assert find_label(pa.schema([*TEXT, ("label", pa.float64())]), Columns()) == "label"
    assert find_label(pa.schema([*TEXT, ("label", pa.string())]), Columns()) is None
    assert find_label(pa.schema([*TEXT, ("gold", pa.int8())]), Columns(label="gold")) == "gold"


def test_output_has_the_kept_columns_then_score_and_status():
    """Fields keep type and order; the score is nullable float32, the status a dictionary that is never null."""
    schema = output_schema(pa.schema([("id", pa.int16()), *TEXT]), Columns(keep=("sentence2", "id"), score="sim"))
    assert schema.names == ["id", "sentence2", "sim", "sim_status"]
    assert schema.field("sim").type == pa.float32()
    assert not schema.field("sim_status").nullable
