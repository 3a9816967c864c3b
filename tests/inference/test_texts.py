"""Row statuses and distinct pairs."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest

from stsb_batch.inference.texts import distinct_pairs
from stsb_batch.pairs.schema import BLANK, STATUSES


def statuses(left: list, right: list, kind: pa.DataType | None = None) -> list[str]:
    kind = kind or pa.string()
    found = distinct_pairs(pa.array(left, kind), pa.array(right, kind))
    return [STATUSES[code] for code in found.statuses]


def test_nulls_win_over_blanks():
    """A null on either side is NULL_INPUT, whatever the other side is."""
    assert statuses([None, "a", None, None], ["a", None, None, ""]) == ["NULL_INPUT"] * 4


INVISIBLE = ["", " ", "\t\n", "\u00a0", "\u200b\u200d", "\ufeff", "\u3000", "\x1f", "\u2060\u00ad"]
INVISIBLE += [
    "\u2064",
    "\u2066",
    "\u061c",
    "\x00",
    "\x07\x1b\x7f\x9f",
    "\u202e",
    "\U000e0001\U000e0041\U000e007f",
    "\ufe0f",
    "\U000e0100",
]
INVISIBLE += ["\u034f", "\u115f\u3164\uffa0", "\u17b4", "\u180e", "\ufff9\ufffb", "\U0001d173"]


@pytest.mark.parametrize("blank", INVISIBLE, ids=ascii)
def test_invisible_text_is_empty(blank: str):
    """Kind: invisible text judged unevenly. White space, control, format and ignorable characters alone are EMPTY_INPUT."""
    assert statuses(["a", blank], [blank, "a"]) == ["EMPTY_INPUT"] * 2
    assert statuses([f"{blank}a{blank}"], ["b"]) == ["OK"]


def test_blanks_are_what_unicode_says():
    """All white space, control and format characters that Python's Unicode tables know are blanks; no letter is."""
    kinds = {chr(code): unicodedata.category(chr(code)) for code in range(0x110000)}
    assert {c for c, kind in kinds.items() if kind in ("Cc", "Cf", "Zs", "Zl", "Zp")} <= set(BLANK)
    assert {kinds[c] for c in BLANK} <= {"Cc", "Cf", "Cn", "Zs", "Zl", "Zp", "Mn", "Lo"}
    assert {c for c in BLANK if kinds[c] == "Lo"} == set("\u115f\u1160\u3164\uffa0")  # fillers, which show nothing


@pytest.mark.parametrize("bad", [b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\xaf", b"\xe2\x82"], ids=repr)
def test_bytes_that_are_not_utf8_cost_their_row_only(bad: bytes):
    """Invalid UTF-8 is INVALID_UTF8 in its row; its neighbours are scored."""
    column = pa.array([b"good", bad, None], pa.binary()).view(pa.string())
    found = distinct_pairs(column, pa.array(["x", "x", "x"]))
    assert [STATUSES[code] for code in found.statuses] == ["OK", "INVALID_UTF8", "NULL_INPUT"]
    assert found.left.take(pa.array(found.left_index)).to_pylist() == ["good"]


def test_equal_pairs_are_kept_once_and_find_their_way_back():
    """Distinct pairs and `inverse` together give each row its own texts again."""
    left, right = ["a", "b", "a", None, "a", "b"], ["x", "x", "x", "x", "y", "x"]
    found = distinct_pairs(pa.array(left), pa.array(right))
    assert len(found.left_index) == len(found.right_index) == 3
    lefts, rights = found.left.take(pa.array(found.left_index)), found.right.take(pa.array(found.right_index))
    again = [(lefts[i].as_py(), rights[i].as_py()) for i in found.inverse]
    assert again == [(left[row], right[row]) for row in found.rows]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_all_layouts_give_the_same(kind: pa.DataType):
    """The physical layout of a text column changes nothing."""
    assert statuses(["a", None, " "], ["b", "b", "b"], kind) == ["OK", "NULL_INPUT", "EMPTY_INPUT"]


def test_all_null_column():
    """A column of type null makes each row NULL_INPUT."""
    found = distinct_pairs(pa.nulls(3), pa.array(["a", "b", None]))
    assert np.array_equal(found.statuses, np.full(3, STATUSES.index("NULL_INPUT")))
    assert len(found.left_index) == 0
