"""Draws the figures for an evaluation as PNG files: training curves, confusion, class accuracy and reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from resnet50_pipeline.figures import (
    DARK,
    LIGHT,
    SMALL_SIZE,
    TEXT_SIZE,
    Theme,
    blend,
    format_percent,
    new_figure,
    percent_ticks,
    save_png,
    shorten,
    style_axes,
    text_color_on,
)
from resnet50_pipeline.reporting.calibration import draw_reliability
from resnet50_pipeline.reporting.classes import read_class_names
from resnet50_pipeline.reporting.curves import draw_training_curves
from resnet50_pipeline.reporting.metrics import confused_pairs, confusion_matrix
from resnet50_pipeline.reporting.plot_tables import write_plot_tables

MAX_CLASSES_SHOWN_WHOLE = 30
"""Maximum number of classes that figures show individually. With more classes, the figures show a summary."""

TRAINING_CURVES = "training_curves.png"
CONFUSION = "confusion.png"
CLASS_ACCURACY = "class_accuracy.png"
RELIABILITY = "reliability.png"
DARK_FOLDER = "dark"
_INCHES_BESIDE_THE_MATRIX = 1.7
# Mean character width in DejaVu Sans, as a fraction of the font size.
_CHARACTER_WIDTH = 0.62
_DASHES = (0, (4, 3))


@dataclass(frozen=True)
class _Bar:
    label: str
    length: float
    value: str
    color: str


def write_plots(
    directory: Path,
    *,
    predictions: pd.DataFrame,
    per_class: pd.DataFrame,
    label_map: Mapping[str, Any],
    training_history: pd.DataFrame | None,
    worst_pairs: int,
) -> list[Path]:
    """Write the figures to `directory` and their dark versions to `directory/dark`. Return all paths.

    The data for the figures is written to `directory/tables`. If there is no training history, the training curves are
    omitted.

    Raises:
        EvaluationTableError: if a table is malformed.
    """
    names = read_class_names(label_map).labels
    is_whole = len(names) <= MAX_CLASSES_SHOWN_WHOLE
    pairs = confused_pairs(predictions, label_map, worst_pairs)
    paths = []
    for folder, theme in ((directory, LIGHT), (directory / DARK_FOLDER, DARK)):
        folder.mkdir(parents=True, exist_ok=True)
        confusion = (
            draw_confusion_matrix(confusion_matrix(predictions, len(names)), names, theme)
            if is_whole
            else draw_confused_pairs(pairs, theme)
        )
        figures = {} if training_history is None else {TRAINING_CURVES: draw_training_curves(training_history, theme)}
        figures |= {
            CONFUSION: confusion,
            CLASS_ACCURACY: draw_class_accuracy(per_class, theme),
            RELIABILITY: draw_reliability(predictions, theme),
        }
        for name, figure in figures.items():
            save_png(figure, folder / name)
            paths.append(folder / name)
    return paths + write_plot_tables(
        directory,
        predictions=predictions,
        per_class=per_class,
        label_map=label_map,
        training_history=training_history,
        max_classes=MAX_CLASSES_SHOWN_WHOLE,
    )


def draw_confusion_matrix(confusion: NDArray[np.int64], names: Sequence[str], theme: Theme = LIGHT) -> Figure:
    """Draw a confusion matrix [C, C] (rows are true classes, columns are predicted classes), with counts in the cells.

    The color of a cell shows its share of the row. The diagonal has a different color, so that a few mistakes stand out
    among many correct predictions.
    """
    count = len(names)
    side = max(6.4, 0.36 * count + 2.6)
    subtitle = "rows: true class; columns: predicted class; blue: correct; orange: wrong"
    figure = new_figure(side, side + 0.3, theme, "Confusion matrix (number of images)", subtitle)
    axes = _single_axes(figure, theme)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    colors = np.array(
        [[_cell_color(shares[row, column], row == column, theme) for column in range(count)] for row in range(count)]
    )
    edges = np.arange(count + 1) - 0.5
    axes.pcolormesh(edges, edges, colors, edgecolors=theme.background, linewidth=1.6)
    axes.set(xlabel="predicted", ylabel="true", aspect="equal", xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    cell_inches = (side - _INCHES_BESIDE_THE_MATRIX) / count
    font_size = _font_size_within(cell_inches, len(str(confusion.max())))
    for row, column in np.argwhere(confusion > 0):
        red, green, blue = colors[row, column]
        axes.text(
            column, row, str(confusion[row, column]), ha="center", va="center", fontsize=font_size,
            color=text_color_on((red, green, blue)),
        )  # fmt: skip
    short = [shorten(name, 18) for name in names]
    is_long = max(map(len, short)) * _CHARACTER_WIDTH * SMALL_SIZE / 72 > 0.95 * cell_inches
    axes.set_xticks(range(count), short, rotation=90 if is_long else 0, parse_math=False)
    axes.set_yticks(range(count), short, parse_math=False)
    return figure


def draw_confused_pairs(pairs: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Return a bar chart of a `confused_pairs` table, with the most frequent pair at the top."""
    subtitle = "true class → predicted class; number of images and share of the true class"
    figure = new_figure(11, max(1.6, 0.36 * len(pairs) + 1.5), theme, "Most confused pairs", subtitle)
    axes = _single_axes(figure, theme)
    if pairs.empty:
        axes.set_axis_off()
        axes.text(0, 0.7, "All images were classified correctly.", color=theme.text, fontsize=TEXT_SIZE)
        return figure
    bars = [
        _Bar(
            label=f"{shorten(row['true_name'], 30)} → {shorten(row['predicted_name'], 30)}",
            length=row["images"],
            value=f"{row['images']}  ({format_percent(row['share'], 0)})",
            color=theme.contrast,
        )
        for row in pairs.to_dict("records")
    ]
    _draw_bars(axes, bars, theme)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("images")
    return figure


def draw_class_accuracy(per_class: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Return a chart of the top-1 accuracies in a `per_class_table`: bars for few classes, a histogram for many."""
    with_images = per_class[per_class["images"] > 0]
    without = len(per_class) - len(with_images)
    note = f"; no images in {without} of {len(per_class)} classes" if without else ""
    if len(per_class) <= MAX_CLASSES_SHOWN_WHOLE:
        return _draw_accuracy_bars(with_images, note, theme)
    return _draw_accuracy_histogram(with_images, note, theme)


def _draw_accuracy_bars(classes: pd.DataFrame, note: str, theme: Theme) -> Figure:
    ordered = classes.sort_values(["top1", "id"])
    overall = float(classes["correct"].sum() / classes["images"].sum())
    subtitle = (
        f"lowest at the top; line: accuracy over all images, {format_percent(overall)}; orange: below the line{note}"
    )
    figure = new_figure(11, max(1.6, 0.36 * len(classes) + 1.3), theme, "Top-1 accuracy by class", subtitle)
    axes = _single_axes(figure, theme)
    bars = [
        _Bar(
            label=shorten(row["name"] or row["synset"], 34),
            length=row["top1"],
            value=f"{format_percent(row['top1'])}  ({row['correct']} of {row['images']})",
            color=theme.contrast if row["top1"] < overall else theme.main,
        )
        for row in ordered.to_dict("records")
    ]
    _draw_bars(axes, bars, theme)
    axes.axvline(overall, color=theme.text, linewidth=1.2, linestyle=_DASHES)
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(percent_ticks())
    return figure


def _draw_accuracy_histogram(classes: pd.DataFrame, note: str, theme: Theme) -> Figure:
    top1 = classes["top1"].to_numpy()
    below_half = int((top1 < 0.5).sum())
    subtitle = f"line: mean over classes, {format_percent(float(top1.mean()))}; {below_half} below 50%{note}"
    figure = new_figure(11, 4.8, theme, "Distribution of top-1 accuracy across classes", subtitle)
    axes = _single_axes(figure, theme)
    bins = _histogram_bins(float(classes["images"].median()))
    # The small term corrects rounding errors such as 0.29 * 100 = 28.999999999999996.
    counts = np.bincount(np.minimum(np.floor(top1 * bins + 1e-9).astype(int), bins - 1), minlength=bins)
    lefts = np.arange(bins) / bins
    colors = [theme.contrast if left + 1 / bins <= 0.5 else theme.main for left in lefts]
    bars = axes.bar(lefts, counts, width=0.86 / bins, align="edge", color=colors)
    axes.bar_label(
        bars, [str(count) if count else "" for count in counts], padding=2, color=theme.muted, fontsize=SMALL_SIZE,
        bbox={"facecolor": theme.background, "edgecolor": "none", "pad": 1},
    )  # fmt: skip
    axes.axvline(float(top1.mean()), color=theme.text, linewidth=1.2, linestyle=_DASHES, zorder=0.9)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(counts) * 1.12)
    axes.set_xticks(np.linspace(0, 1, 11))
    axes.xaxis.set_major_formatter(percent_ticks())
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("top-1 accuracy")
    axes.set_ylabel("classes")
    return figure


def _single_axes(figure: Figure, theme: Theme) -> Axes:
    axes: Axes = figure.subplots()
    style_axes(axes, theme)
    return axes


def _histogram_bins(images_per_class: float) -> int:
    """Return a number of bins for which each bin covers the same number of possible accuracies.

    For example, a class with 50 images has 51 possible accuracies. With 20 bins, each bin would cover either two or
    three of these values, and the heights would vary for this reason alone.
    """
    if images_per_class >= 200:
        return 25
    return next((bins for bins in (25, 20, 10, 5) if images_per_class % bins == 0), 10)


def _draw_bars(axes: Axes, bars: Sequence[_Bar], theme: Theme) -> None:
    """Draw horizontal bars from top to bottom, with their values in a column on the right."""
    positions = range(len(bars))
    axes.barh(positions, [bar.length for bar in bars], height=0.72, color=[bar.color for bar in bars])
    axes.set_yticks(positions, [bar.label for bar in bars], parse_math=False)
    axes.tick_params(axis="y", colors=theme.text, labelsize=TEXT_SIZE)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=theme.grid, linewidth=0.9)
    for position, bar in zip(positions, bars, strict=True):
        axes.annotate(
            bar.value, (1, position), (10, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            va="center", color=theme.text, fontsize=SMALL_SIZE,
        )  # fmt: skip


def _font_size_within(inches: float, characters: int) -> float:
    """Return the font size in points at which `characters` characters fill 80% of the width."""
    return min(TEXT_SIZE, 0.8 * 72 * inches / (_CHARACTER_WIDTH * characters))


def _cell_color(share: float, is_diagonal: bool, theme: Theme) -> tuple[float, float, float]:
    # The square root makes even rare mistakes visible against the background.
    if share == 0:
        return blend(theme.grid, theme.background, 0.4)
    if is_diagonal:
        return blend(theme.main, theme.background, 0.12 + 0.88 * share)
    return blend(theme.contrast, theme.background, 0.15 + 0.85 * float(np.sqrt(share)))
