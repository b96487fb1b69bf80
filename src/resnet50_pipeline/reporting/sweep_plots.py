"""The pictures of a sweep: its trials in their order, each parameter against the value, and what mattered."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from resnet50_pipeline.files import replacing_file, write_text
from resnet50_pipeline.reporting.style import LIGHT, SMALL_SIZE, format_percent, new_figure, save_png, style_axes

HISTORY, PARAMETERS, IMPORTANCES, TABLE = "history.png", "parameters.png", "importances.png", "trials.csv"
_FIXED_COLUMNS = ("trial", "state", "value", "epochs", "seconds")
_COLUMNS = 3


def write_sweep_plots(
    folder: Path,
    trials: Sequence[Mapping[str, Any]],
    importances: Mapping[str, float],
    *,
    metric: str,
    maximize: bool,
    log_scaled: Collection[str] = (),
) -> None:
    """Write the table, and the pictures for which there are trials enough.

    Args:
        folder: that is made.
        trials: a mapping each with trial, state, value (None where nothing was measured), epochs, seconds and, by
            their paths, the parameters.
        importances: share of each parameter, 0..1; none for too few trials.
        metric: what the value is, as val/top1.
        maximize: whether a greater value is better.
        log_scaled: parameters that are drawn over orders of magnitude.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(list(trials))
    write_text(folder / TABLE, table.to_csv(index=False))
    if table.empty or table["value"].notna().sum() == 0:
        return
    measured = table[table["value"].notna()]
    with replacing_file(folder / HISTORY) as temporary:
        _draw_history(temporary, measured, metric, maximize=maximize)
    with replacing_file(folder / PARAMETERS) as temporary:
        _draw_parameters(temporary, measured, metric, log_scaled)
    if importances:
        with replacing_file(folder / IMPORTANCES) as temporary:
            _draw_importances(temporary, importances)


def _draw_history(path: Path, table: pd.DataFrame, metric: str, *, maximize: bool) -> None:
    """Draw value over trial: complete ones filled, those that were given up hollow, and the best so far as a line."""
    figure = new_figure(8, 4.2, LIGHT, f"{metric} over trials", "filled: complete; hollow: given up before the end")
    axes = figure.subplots()
    style_axes(axes, LIGHT)
    _scatter(axes, table, table["trial"])
    complete = table[table["state"] == "complete"]
    if not complete.empty:
        best = complete["value"].cummax() if maximize else complete["value"].cummin()
        axes.step(complete["trial"], best, where="post", color=LIGHT.contrast, linewidth=1.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    save_png(figure, path)


def _draw_parameters(path: Path, table: pd.DataFrame, metric: str, log_scaled: Collection[str]) -> None:
    """Draw the value over each parameter, a panel each."""
    names = [name for name in table.columns if name not in _FIXED_COLUMNS]
    rows = math.ceil(len(names) / _COLUMNS)
    columns = min(_COLUMNS, len(names))
    figure = new_figure(max(6.0, 4.0 * columns), 0.6 + 3.2 * rows, LIGHT, f"{metric} over each parameter")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, name in itertools.zip_longest(panels.flat, names):
        if name is None:
            axes.set_visible(False)
            continue
        style_axes(axes, LIGHT)
        values = table[name]
        _scatter(axes, table, values if pd.api.types.is_numeric_dtype(values) else values.map(str))
        if name in log_scaled:
            axes.set_xscale("log")
        axes.set_xlabel(name)
    save_png(figure, path)


def _draw_importances(path: Path, importances: Mapping[str, float]) -> None:
    """Draw the share of each parameter, the greatest on top."""
    ordered = sorted(importances.items(), key=lambda item: item[1])
    figure = new_figure(8, 1.1 + 0.4 * len(ordered), LIGHT, "What decides over being among the better trials")
    axes = figure.subplots()
    style_axes(axes, LIGHT)
    axes.grid(visible=False)
    bars = axes.barh([name for name, _ in ordered], [share for _, share in ordered], color=LIGHT.main, height=0.6)
    axes.bar_label(bars, [format_percent(share, 0) for _, share in ordered], padding=4, fontsize=SMALL_SIZE)
    axes.set_xticks([])
    axes.set_xlim(0, 1.12 * max(share for _, share in ordered) or 1)
    save_png(figure, path)


def _scatter(axes: Axes, table: pd.DataFrame, x: pd.Series) -> None:
    for is_complete, colors in ((False, "none"), (True, LIGHT.main)):
        part = table["state"].eq("complete") == is_complete
        axes.scatter(x[part], table["value"][part], s=34, facecolors=colors, edgecolors=LIGHT.main, linewidths=1.2)
