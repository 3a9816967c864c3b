"""The scale that labels are on."""

import re

import numpy as np
import polars as pl
import pytest

from stsb_batch.errors import UsageError
from stsb_batch.pairs.label_scale import doubt, is_on_scale, map_labels, parse_scale


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0, 1, 0], r"the scale is 0 to 5, but the labels are only 0 \(2\), 1 \(1\)\. .*--label-scale .*0,1\."),
        ([-1, 0, 1, 1], r"only -1 \(1\), 0 \(1\), 1 \(2\), 1 outside it\. .*-1,1\."),
        ([-1, 4, 5], r"only -1 \(1\), 4 \(1\), 5 \(1\), 1 outside it"),
        (range(101), r"101 labels from 0 to 100, 95 outside it\. .*0,100\."),
        (np.linspace(0, 1, 50), r"50 labels from 0 to 1\. .*0,1\."),
        ([0, 1, 2], r"only 0 \(1\), 1 \(1\), 2 \(1\)"),
        ([0, 0], r"only 0 \(2\)\. If they are on another scale, use --label-scale LOW,HIGH\."),
    ],
)
def test_labels_that_do_not_look_like_their_scale_are_named(values, said: str):
    """Kind: labels on another scale. Their values or range are named with counts, the scale and the way out."""
    told = doubt(np.array(values, np.float32), (0.0, 5.0))
    assert told is not None
    assert re.search(said, told), told


@pytest.mark.parametrize("values", [[0, 5, 0], [1, 2, 3, 4, 5], [0, 1, 2, 3], np.linspace(0, 5, 30), [], [np.nan]])
def test_labels_that_may_be_on_the_scale_are_not_doubted(values):
    """Likert scales, whole steps, two ends: nothing is said."""
    assert doubt(np.array(values, np.float32), (0.0, 5.0)) is None


def test_labels_are_held_against_the_scale_that_is_named():
    """Kind: labels on another scale. 0 to 1 is right for 0,1, and far too low for 0,100."""
    labels = np.array([0, 1, 1], np.float32)
    assert doubt(labels, (0.0, 1.0)) is None
    assert "the scale is 0 to 100" in doubt(labels, (0.0, 100.0))


@pytest.mark.parametrize(("scale", "values"), [((0.0, 1.0), [0, 0.5, 1]), ((-1.0, 1.0), [-1, 0, 1])])
def test_scales_are_mapped_linearly(scale: tuple[float, float], values: list[float]):
    """Ends go to 0 and 5 exactly, the middle to 2.5."""
    mapped = map_labels(pl.Series(values, dtype=pl.Float32), scale)
    assert (mapped.to_list(), mapped.dtype) == ([0.0, 2.5, 5.0], pl.Float32)


def test_ends_that_have_no_exact_float_are_on_the_scale():
    """A label of 0.1, as Float32, is on the scale 0 to 0.1; NaN is on none, and null stays null."""
    labels = pl.Series([0.0, 0.1, 0.11, float("nan"), None], dtype=pl.Float32)
    assert is_on_scale(labels, (0.0, 0.1)).to_list() == [True, True, False, False, None]


@pytest.mark.parametrize("text", ["", "1", "1,0", "1,1", "a,b", "0,1,2", "nan,1", "0,inf", "-1e308,1e308", "0;1"])
def test_what_is_no_scale_is_refused(text: str):
    """Two ends, the lower one first, both finite; anything else is named."""
    with pytest.raises(UsageError, match="not a scale"):
        parse_scale(text)


def test_scales_are_read():
    """With blanks, signs and fractions; without any it is that of the scores."""
    assert (parse_scale("-1, 1.5"), parse_scale(None)) == ((-1.0, 1.5), (0.0, 5.0))
