"""The pictures of an evaluation, as PNG files: training curves, confusion, accuracy of the classes."""

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

from resnet50_pipeline.reporting.calibration import draw_reliability
from resnet50_pipeline.reporting.classes import read_class_names
from resnet50_pipeline.reporting.curves import draw_training_curves
from resnet50_pipeline.reporting.metrics import confused_pairs, confusion_matrix
from resnet50_pipeline.reporting.plot_tables import write_plot_tables
from resnet50_pipeline.reporting.style import (
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

MAX_CLASSES_SHOWN_WHOLE = 30
"""Up to here every class has its own row in a picture; beyond, pictures sum up."""

TRAINING_CURVES = "training_curves.png"
CONFUSION = "confusion.png"
CLASS_ACCURACY = "class_accuracy.png"
RELIABILITY = "reliability.png"
DARK_FOLDER = "dark"
_INCHES_BESIDE_THE_MATRIX = 1.7
# Of DejaVu Sans, as a fraction of its size.
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
    """Write the pictures into `directory`, and again for dark pages into `directory/dark`; return the paths.

    Below `directory/tables` go the numbers behind them. There are no curves without a training history.

    Raises:
        EvaluationTableError: a table is malformed.
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
    """Return a confusion matrix [C, C] (rows true, columns predicted) with its numbers.

    A cell's colour is its share of the row, in one colour on the diagonal and in another beside it, so that a few
    mistakes stand out next to many hits.
    """
    count = len(names)
    side = max(6.4, 0.36 * count + 2.6)
    subtitle = "rows: true class, columns: predicted class; blue: recognised, orange: mistaken"
    figure = new_figure(side, side + 0.3, theme, "Confusion, in images", subtitle)
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
    """Return bars of the most confused pairs (a table of `confused_pairs`), the worst at the top."""
    subtitle = (
        "images of the class before the arrow that were taken for the one behind it, and their share of the class"
    )
    figure = new_figure(11, max(1.6, 0.36 * len(pairs) + 1.5), theme, "Most confused pairs", subtitle)
    axes = _single_axes(figure, theme)
    if pairs.empty:
        axes.set_axis_off()
        axes.text(0, 0.7, "No image was taken for another class.", color=theme.text, fontsize=TEXT_SIZE)
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
    """Return the top-1 accuracy of the classes (a table of `per_class_table`): bars for few, a histogram for many."""
    with_images = per_class[per_class["images"] > 0]
    without = len(per_class) - len(with_images)
    note = f"; {without} of {len(per_class)} classes have no images" if without else ""
    if len(per_class) <= MAX_CLASSES_SHOWN_WHOLE:
        return _draw_accuracy_bars(with_images, note, theme)
    return _draw_accuracy_histogram(with_images, note, theme)


def _draw_accuracy_bars(classes: pd.DataFrame, note: str, theme: Theme) -> Figure:
    ordered = classes.sort_values(["top1", "id"])
    overall = float(classes["correct"].sum() / classes["images"].sum())
    subtitle = f"the worst at the top; line: all images together, {format_percent(overall)}; orange: below it{note}"
    figure = new_figure(11, max(1.6, 0.36 * len(classes) + 1.3), theme, "Top-1 accuracy of each class", subtitle)
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
    subtitle = (
        f"line: mean of the classes, {format_percent(float(top1.mean()))}; {below_half} classes are below 50 %{note}"
    )
    figure = new_figure(11, 4.8, theme, "Top-1 accuracy of the classes", subtitle)
    axes = _single_axes(figure, theme)
    bins = _histogram_bins(float(classes["images"].median()))
    # The small term keeps 0.28 * 25 = 7.000000000000001 and 0.29 * 100 = 28.999999999999996 in their own bins.
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
    """Return a number of bins that each hold as many possible accuracies as the next.

    A class of 50 images can reach 51 accuracies; 20 bins would hold two or three of them in turn, and the picture
    would be a comb.
    """
    if images_per_class >= 200:
        return 25
    return next((bins for bins in (25, 20, 10, 5) if images_per_class % bins == 0), 10)


def _draw_bars(axes: Axes, bars: Sequence[_Bar], theme: Theme) -> None:
    """Draw horizontal bars, the first at the top, with their values in a column at the right."""
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
    """Return the type size, in points, at which so many characters fill 80 % of a width."""
    return min(TEXT_SIZE, 0.8 * 72 * inches / (_CHARACTER_WIDTH * characters))


def _cell_color(share: float, is_diagonal: bool, theme: Theme) -> tuple[float, float, float]:
    # The root lifts small shares of mistakes above the background; 0 stays a faint cell.
    if share == 0:
        return blend(theme.grid, theme.background, 0.4)
    if is_diagonal:
        return blend(theme.main, theme.background, 0.12 + 0.88 * share)
    return blend(theme.contrast, theme.background, 0.15 + 0.85 * float(np.sqrt(share)))
