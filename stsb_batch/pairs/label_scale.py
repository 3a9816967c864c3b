"""The scale that labels are on: mapped to the scale of the scores, and doubted where the labels do not fit it."""

import math
from typing import Any

import numpy as np
import polars as pl

from stsb_batch.errors import UsageError, escape_control
from stsb_batch.pairs.schema import LABEL_RANGE

LOW_SHARE = 0.4  # labels that all lie in this low share of the scale are probably on another scale
MAX_VALUES_SHOWN = 5  # distinct labels that a message lists


def parse_scale(text: str | None) -> tuple[float, float]:
    """Read `LOW,HIGH`, by default the scale of the scores; raises `UsageError` for anything else."""
    if text is None:
        return LABEL_RANGE
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not (low < high and math.isfinite(high - low)):
        raise UsageError(
            f"--label-scale {escape_control(text)}: not a scale. Write its lower and upper end: --label-scale 0,1."
        )
    return low, high


def is_on_scale(labels: pl.Series, scale: tuple[float, float]) -> pl.Series:
    """Say of each label (Float32) whether it is on the scale: null for a null label, false for NaN."""
    low, high = (pl.lit(end, pl.Float32) for end in scale)
    return pl.select(labels.is_between(low, high) & labels.is_not_nan()).to_series()


def map_labels(labels: pl.Series, scale: tuple[float, float]) -> pl.Series:
    """Map labels linearly from their scale to the scale of the scores."""
    if scale == LABEL_RANGE:
        return labels
    (low, high), (lowest, highest) = scale, LABEL_RANGE
    return (((labels.cast(pl.Float64) - low) * (highest - lowest) / (high - low)) + lowest).cast(pl.Float32)


def doubt(labels: np.ndarray, scale: tuple[float, float]) -> str | None:
    """Say why these labels do not look like the scale, with counts and what to do; None where they do.

    Two things count: labels outside the scale, and labels that all lie at its low end (0 and 1 of entity matching, shares
    from 0 to 1).
    """
    labels = labels[np.isfinite(labels)]
    if not len(labels):
        return None
    low, high = scale
    outside = int(np.sum((labels < np.float32(low)) | (labels > np.float32(high))))
    if not outside and labels.max() > low + LOW_SHARE * (high - low):
        return None
    values, counts = np.unique(labels, return_counts=True)
    seen = f"{len(labels):,} labels from {values[0]:g} to {values[-1]:g}"
    if len(values) <= MAX_VALUES_SHOWN:
        each = [f"{value:g} ({count:,})" for value, count in zip(values, counts, strict=True)]
        seen = f"the labels are only {', '.join(each)}"
    beyond = f", {outside:,} outside it" if outside else ""
    ends = (math.floor(values[0]), math.ceil(values[-1]))
    example = "LOW,HIGH" if ends[0] == ends[1] else f"LOW,HIGH, for example {ends[0]},{ends[1]}"
    return (
        f"the scale is {low:g} to {high:g}, but {seen}{beyond}. If they are on another scale, use --label-scale {example}."
    )


def card_scale(labels: dict[str, Any]) -> str:
    """Say which scale a card's labels were on; cards of version 0.1.0 do not name one, their labels were on 0 to 5."""
    low, high = labels.get("scale", LABEL_RANGE)
    return f"{low:g} to {high:g}" + ("" if (low, high) == LABEL_RANGE else ", mapped to {:g} to {:g}".format(*LABEL_RANGE))
