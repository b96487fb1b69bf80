"""Draws the training curves: loss, top-1 accuracy, learning rate and throughput by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.figures import (
    LIGHT,
    LineEnd,
    Theme,
    count_ticks,
    format_count,
    format_percent,
    label_line_ends,
    new_figure,
    percent_ticks,
    style_axes,
    title_panel,
)
from resnet50_pipeline.text import pluralize

COLUMNS = ("event", "step", "epoch", "loss", "top1", "learning_rate", "images_per_second")
_MAX_MARKED_POINTS = 40
_MAX_POINTS_OF_A_LINE = 500


@dataclass(frozen=True)
class _Events:
    """The rows of the training history, separated by event and sorted by step."""

    steps: pd.DataFrame
    epochs: pd.DataFrame
    evaluations: pd.DataFrame
    resumes: pd.DataFrame


def draw_training_curves(history: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Return a 1650 x 1140-pixel figure with four panels: loss, top-1 accuracy, learning rate and images/s by step.

    Thin lines show `train_step` events. Bold lines show `epoch_end` (train) and `eval_end` (validation) events. Dashed
    vertical lines mark the steps at which training resumed.

    Raises:
        EvaluationTableError: if a column is missing or there are no events to draw.
    """
    events = _split_events(history)
    figure = new_figure(11, 7.6, theme)
    panels = figure.subplots(2, 2, sharex=True)
    for axes in panels.flat:
        style_axes(axes, theme)
    _draw_loss(panels[0, 0], events, theme)
    _draw_top1(panels[0, 1], events, theme)
    _draw_learning_rate(panels[1, 0], events, theme)
    _draw_throughput(panels[1, 1], events, theme)
    for axes in panels.flat:
        _mark_resumes(axes, events, theme)
    for axes in panels[1]:
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(count_ticks())
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def _split_events(history: pd.DataFrame) -> _Events:
    missing = [column for column in COLUMNS if column not in history.columns]
    if missing:
        raise EvaluationTableError(
            [f"training_history: the columns {', '.join(missing)} are missing; run the training pipeline again"]
        )

    def rows_of(event: str) -> pd.DataFrame:
        return history[history["event"] == event].sort_values("step", kind="stable")

    events = _Events(rows_of("train_step"), rows_of("epoch_end"), rows_of("eval_end"), rows_of("resumed"))
    if events.steps.empty and events.epochs.empty and events.evaluations.empty:
        raise EvaluationTableError(
            [
                f"training_history: none of its {len(history)} rows is a train_step, epoch_end or eval_end; "
                f"run the training pipeline again"
            ]
        )
    return events


def _mark_resumes(axes: Axes, events: _Events, theme: Theme) -> None:
    for step in events.resumes["step"]:
        axes.axvline(step, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=0.5)


def _draw_loss(axes: Axes, events: _Events, theme: Theme) -> None:
    title_panel(axes, theme, "Loss", "thin: every print interval; bold: epoch means")
    ends = _draw_train_and_validation(axes, events, "loss", "{:.3g}".format, theme)
    axes.set_ylim(bottom=0)
    label_line_ends(axes, ends)


def _draw_top1(axes: Axes, events: _Events, theme: Theme) -> None:
    best = events.evaluations["top1"].max()
    subtitle = "train: augmented images"
    if not np.isnan(best):
        row = events.evaluations.iloc[int(events.evaluations["top1"].argmax())]
        subtitle = f"ring: best validation result, {format_percent(best)} after epoch {int(row['epoch'])}"
        ring = axes.plot([row["step"]], [best], "o", markersize=13, color=theme.contrast, fillstyle="none")
        ring[0].set_clip_on(False)
    title_panel(axes, theme, "Top-1 accuracy", subtitle)
    ends = _draw_train_and_validation(axes, events, "top1", format_percent, theme)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(percent_ticks())
    label_line_ends(axes, ends)


def _draw_train_and_validation(
    axes: Axes, events: _Events, column: str, format_value: Callable[[float], str], theme: Theme
) -> list[LineEnd]:
    _draw_steps(axes, events, column, theme)
    ends = []
    for name, rows, color, marker in (
        ("train", events.epochs, theme.main, "o"),
        ("validation", events.evaluations, theme.contrast, "s"),
    ):
        drawn = rows.dropna(subset=[column])
        if drawn.empty:
            continue
        marked = marker if len(drawn) <= _MAX_MARKED_POINTS else ""
        axes.plot(drawn["step"], drawn[column], color=color, linewidth=2, marker=marked, markersize=5)
        last = drawn.iloc[-1]
        value = float(last[column])
        ends.append(LineEnd(float(last["step"]), value, f"{name}\n{format_value(value)}", color))
    return ends


def _draw_steps(axes: Axes, events: _Events, column: str, theme: Theme) -> None:
    # In a long run, the individual steps merge into a band that would hide the epoch lines.
    is_band = len(events.steps) > _MAX_POINTS_OF_A_LINE
    axes.plot(
        events.steps["step"],
        events.steps[column],
        color=theme.main_faint,
        linewidth=0.5 if is_band else 1,
        alpha=0.6 if is_band else 1,
    )


def _draw_learning_rate(axes: Axes, events: _Events, theme: Theme) -> None:
    rates = events.steps.dropna(subset=["learning_rate"])
    # A piecewise-constant rate drops by a factor each time, so the later values are visible only on a logarithmic axis.
    values = rates["learning_rate"].to_numpy()
    is_piecewise = len(np.unique(values)) > 1 and float(np.median(np.abs(np.diff(values)))) == 0
    # The history contains the rates only at print intervals, so the peak of the schedule may lie between two
    # of these points.
    peak = f"highest logged value {values.max():.3g}" if len(values) else ""
    title_panel(axes, theme, "Learning rate", f"{peak}; logarithmic axis" if is_piecewise else peak)
    axes.plot(rates["step"], values, color=theme.main, linewidth=2)
    if is_piecewise:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_throughput(axes: Axes, events: _Events, theme: Theme) -> None:
    resumes = len(events.resumes)
    note = f"; dashed: resumed {pluralize(resumes, 'time')}" if resumes else ""
    title_panel(axes, theme, "Training throughput", f"images/s, all ranks combined{note}")
    _draw_steps(axes, events, "images_per_second", theme)
    epochs = events.epochs.dropna(subset=["images_per_second"])
    marker = "o" if len(epochs) <= _MAX_MARKED_POINTS else ""
    axes.plot(epochs["step"], epochs["images_per_second"], color=theme.main, linewidth=2, marker=marker, markersize=5)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(count_ticks())
    if not epochs.empty:
        last = epochs.iloc[-1]
        speed = float(last["images_per_second"])
        label_line_ends(axes, [LineEnd(float(last["step"]), speed, f"{format_count(speed)}/s", theme.main)])
