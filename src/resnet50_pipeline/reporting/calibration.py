"""Measures calibration: whether predictions with a probability of 80% are correct in 80 out of 100 cases."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet50_pipeline.figures import (
    LIGHT,
    Theme,
    blend,
    count_ticks,
    format_percent,
    new_figure,
    percent_ticks,
    style_axes,
)
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table

BINS = 15
"""Number of equal-width bins, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"."""


def reliability_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Bin the predictions by the probability of the predicted class, and return one row per bin.

    Columns: `low` and `high` (bin edges in 0..1; a bin includes its upper edge), `images` (number of images),
    `confidence` and `accuracy` (means over the images in the bin, or NaN if the bin is empty).

    Raises:
        EvaluationTableError: if the table is malformed.
    """
    return bin_confidences(read_prediction_table(predictions))


def bin_confidences(table: PredictionTable) -> pd.DataFrame:
    """Return the table described in `reliability_table`. The predictions must already be validated."""
    # Floating-point sums depend on the order. Sorting ensures that the same rows always produce the same result.
    order = np.lexsort((table.is_top1, table.top_probabilities[:, 0]))
    confidence, is_top1 = table.top_probabilities[order, 0], table.is_top1[order]
    # Softmax in float32 can exceed 1 by a few units in the last place.
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
    """Return calibration metrics, all in 0..1.

    `ece` is the mean gap between confidence and accuracy over the bins, weighted by the number of images in each bin.
    `mce` is the largest gap in any bin. `mean_confidence` is the mean probability of the predicted class.
    """
    bins = bin_confidences(table)
    filled = bins[bins["images"] > 0]
    gaps = (filled["accuracy"] - filled["confidence"]).abs()
    return {
        "ece": float((gaps * filled["images"]).sum() / filled["images"].sum()),
        "mce": float(gaps.max()),
        "mean_confidence": float(np.sort(table.top_probabilities[:, 0]).mean()),
    }


def draw_reliability(predictions: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Return the reliability diagram with a histogram of images per bin below it."""
    table = read_prediction_table(predictions)
    bins, errors = bin_confidences(table), calibration_errors(table)
    direction = "overconfident" if errors["mean_confidence"] > float(table.is_top1.mean()) else "underconfident"
    subtitle = (
        f"line: accuracy; orange: gap to the probability ({format_percent(errors['ece'])} on average, {direction})"
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
