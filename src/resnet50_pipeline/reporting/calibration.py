"""Calibration: whether images predicted with 80 % are right in 80 of 100 cases."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table
from resnet50_pipeline.reporting.style import (
    LIGHT,
    Theme,
    blend,
    count_ticks,
    format_percent,
    new_figure,
    percent_ticks,
    style_axes,
)

BINS = 15
"""Of equal width, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"."""


def reliability_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return a row a bin of the predicted class's probability.

    Columns: `low`, `high` (ends of the bin, 0..1; the upper one belongs to it), `images`, `confidence` and `accuracy`
    (means of its images, NaN without images).

    Raises:
        EvaluationTableError: the table is malformed.
    """
    return bin_confidences(read_prediction_table(predictions))


def bin_confidences(table: PredictionTable) -> pd.DataFrame:
    """As `reliability_table`, of a table that was read."""
    # Sorted, so that the order of the rows never shows in the last digit.
    order = np.lexsort((table.is_top1, table.top_probabilities[:, 0]))
    confidence, is_top1 = table.top_probabilities[order, 0], table.is_top1[order]
    # A softmax in float32 may exceed 1 by a few units in the last place.
    found = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    images = np.bincount(found, minlength=BINS)
    divisor = np.where(images > 0, images, np.nan)
    return pd.DataFrame(
        {
            "low": np.arange(BINS) / BINS,
            "high": np.arange(1, BINS + 1) / BINS,
            "images": images,
            "confidence": np.bincount(found, weights=confidence, minlength=BINS) / divisor,
            "accuracy": np.bincount(found, weights=is_top1, minlength=BINS) / divisor,
        }
    )


def calibration_errors(table: PredictionTable) -> Mapping[str, float]:
    """Return `ece`, the mean gap between confidence and accuracy over images (0..1), and `mce`, the largest one."""
    bins = bin_confidences(table)
    filled = bins[bins["images"] > 0]
    gaps = (filled["accuracy"] - filled["confidence"]).abs()
    return {
        "ece": float((gaps * filled["images"]).sum() / filled["images"].sum()),
        "mce": float(gaps.max()),
        "mean_confidence": float(np.sort(table.top_probabilities[:, 0]).mean()),
    }


def draw_reliability(predictions: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Return the reliability diagram above the number of images of each bin."""
    table = read_prediction_table(predictions)
    bins, errors = bin_confidences(table), calibration_errors(table)
    direction = "too sure" if errors["mean_confidence"] > float(table.is_top1.mean()) else "not sure enough"
    subtitle = (
        f"line: accuracy; orange: the gap to the probability ({format_percent(errors['ece'])} on average: {direction})"
    )
    figure = new_figure(7.6, 7.2, theme, "Reliability", subtitle)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for axes in (upper, lower):
        style_axes(axes, theme)
    width = 0.9 / BINS
    filled = bins[bins["images"] > 0]
    lefts = np.array(filled["low"]) + 0.05 / BINS
    accuracy, confidence = np.array(filled["accuracy"]), np.array(filled["confidence"])
    low, high = np.minimum(accuracy, confidence), np.maximum(accuracy, confidence)
    upper.bar(lefts, low, width, align="edge", color=theme.main)
    gap = blend(theme.contrast, theme.background, 0.55)
    upper.bar(lefts, high - low, width, bottom=low, align="edge", color=gap)
    upper.hlines(accuracy, lefts, lefts + width, color=theme.text, linewidth=1.8)
    upper.plot([0, 1], [0, 1], color=theme.muted, linewidth=1.2, linestyle=(0, (4, 3)))
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    upper.set_ylabel("top-1 accuracy")
    upper.yaxis.set_major_formatter(percent_ticks())
    lower.bar(lefts, filled["images"], width, align="edge", color=theme.main_faint)
    lower.set_ylabel("images")
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    lower.yaxis.set_major_formatter(count_ticks())
    lower.set_xlabel("probability of the predicted class")
    lower.xaxis.set_major_formatter(percent_ticks())
    return figure
