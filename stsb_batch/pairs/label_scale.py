"""The scale that labels are on: mapped on that of the scores, and doubted where the labels do not look like it."""

import math

import numpy as np
import polars as pl

from stsb_batch.errors import UsageError, escape_control
from stsb_batch.pairs.schema import LABEL_RANGE

LOW_SHARE = 0.4  # labels that never leave this much of the scale, at its low end, are hardly on it
NAMED = 5  # so many different labels are named one by one


def parse_scale(text: str | None) -> tuple[float, float]:
    """Read `LOW,HIGH`; raises `UsageError` for what is no scale. Without any it is that of the scores."""
    if text is None:
        return LABEL_RANGE
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not (low < high and math.isfinite(high - low)):
        raise UsageError(
            f"--label-scale {escape_control(text)}: not a scale. Write its two ends, the lower one first: --label-scale 0,1."
        )
    return low, high


def is_on_scale(labels: pl.Series, scale: tuple[float, float]) -> pl.Series:
    """Say of each label (Float32) whether it is on the scale; null where there is none, false for NaN."""
    low, high = (pl.lit(end, pl.Float32) for end in scale)
    return pl.select(labels.is_between(low, high) & labels.is_not_nan()).to_series()


def map_labels(labels: pl.Series, scale: tuple[float, float]) -> pl.Series:
    """Map labels linearly from their scale on that of the scores."""
    if scale == LABEL_RANGE:
        return labels
    (low, high), (lowest, highest) = scale, LABEL_RANGE
    return (((labels.cast(pl.Float64) - low) * (highest - lowest) / (high - low)) + lowest).cast(pl.Float32)


def doubt(labels: np.ndarray, scale: tuple[float, float]) -> str | None:
    """Say what speaks against these labels being on the scale, with counts and the way out; None where nothing does.

    Labels outside the scale do, and labels that all lie at its low end: 0 and 1 of entity matching, shares from 0 to 1.
    """
    labels = labels[np.isfinite(labels)]
    if not len(labels):
        return None
    low, high = scale
    outside = int(np.sum((labels < np.float32(low)) | (labels > np.float32(high))))
    if not outside and labels.max() > low + LOW_SHARE * (high - low):
        return None
    values, counts = np.unique(labels, return_counts=True)
    said = f"{len(labels):,} labels from {values[0]:g} to {values[-1]:g}"
    if len(values) <= NAMED:
        each = [f"{value:g} ({count:,})" for value, count in zip(values, counts, strict=True)]
        said = f"the labels are only {', '.join(each)}"
    beyond = f", {outside:,} outside of it" if outside else ""
    ends = (math.floor(values[0]), math.ceil(values[-1]))
    example = "LOW,HIGH" if ends[0] == ends[1] else f"LOW,HIGH, for example {ends[0]},{ends[1]}"
    return f"the scale is {low:g} to {high:g}, but {said}{beyond}. If theirs is another, name it: --label-scale {example}."


def card_scale(labels: dict) -> str:
    """Say in words which scale a card's labels were on; older cards have no other than that of the scores."""
    low, high = labels.get("scale", LABEL_RANGE)
    return f"{low:g} to {high:g}" + ("" if (low, high) == LABEL_RANGE else ", mapped on {:g} to {:g}".format(*LABEL_RANGE))
