"""Converts a training history to the series that the interactive curves show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MAX_POINTS = 1_200
"""Maximum number of points in a series. Longer series keep the lowest and highest value of each interval."""
_STAGES = ("stage1", "stage2", "stage3", "stage4")
_PHASES = ("load", "forward", "backward", "reduce", "optimizer", "checkpoint")
# The panels, each with the history column that it shows.
PANELS = {
    "Loss": "loss",
    "Top-1 accuracy": "top1",
    "Learning rate": "learning_rate",
    "Throughput (images/s)": "images_per_second",
}
# Panels with one series per existing column, named after the last part of the column. They show only training steps.
STEP_PANELS = {
    "Gradient norm": ("gradient_norm",),
    "Update-to-weight ratio": tuple(f"update_ratio_{name}" for name in ("stem", *_STAGES, "head")),
    "Time per step (s)": tuple(f"seconds_{phase}" for phase in _PHASES),
    "Memory (GiB)": ("memory_bytes", "peak_memory_bytes"),
    "Loss scale": ("loss_scale",),
    "Skipped steps": ("skipped_steps",),
}
_NAMES = {"memory_bytes": "current", "peak_memory_bytes": "peak"}
_SERIES = {"training steps": "train_step", "training epochs": "epoch_end", "validation": "eval_end"}


def describe_curves(history: pd.DataFrame) -> dict[str, Any]:
    """Return the panels of the curves: series with `name`, `step`, `epoch` and `value`, and the restarts.

    The epoch of a step is a fraction: 1.5 is the middle of the second epoch. In panels with several columns, each
    series has a `tone`, the number of its color. Panels that are empty or contain only zeros are omitted.
    """
    panels = [
        {"title": title, "column": column, "series": _series_of(history, column)} for title, column in PANELS.items()
    ]
    panels += [_step_panel(history, title, columns) for title, columns in STEP_PANELS.items()]
    resumed = history.loc[history["event"] == "resumed", "step"].to_numpy(np.float64)
    return {
        "panels": [panel for panel in panels if panel["series"]],
        "restarts": {"step": resumed.tolist(), "epoch": _epochs_at(history, resumed).round(3).tolist()},
    }


def _step_panel(history: pd.DataFrame, title: str, columns: tuple[str, ...]) -> dict[str, Any]:
    series = []
    for tone, column in enumerate(columns):
        if column not in history.columns or not history[column].gt(0).any():
            continue
        values = history[column] / 2**30 if column in _NAMES else history[column]
        for one in _series_of(history.assign(**{column: values}), column):
            name = _NAMES.get(column, column.rpartition("_")[2])
            series.append(one if len(columns) == 1 else {**one, "name": name, "tone": tone})
    is_log = title == "Update-to-weight ratio"
    return {"title": title, "column": columns[0], "series": series, **({"log": True} if is_log else {})}


def merge_curves(runs: Sequence[tuple[str, Mapping[str, Any] | None]]) -> dict[str, Any] | None:
    """Return panels with the curves of several runs. Each series has the index of its run as `run`.

    Series with a `tone` are omitted, because the colors identify the runs.

    Args:
        runs: for each run, its display name and the result of `describe_curves`, or None if the run has no curves.

    Returns:
        The panels, or None if no run has curves.
    """
    panels: dict[str, dict[str, Any]] = {}
    for index, (name, curves) in enumerate(runs):
        for panel in curves["panels"] if curves else []:
            series = [one for one in panel["series"] if "tone" not in one]
            if series:
                merged = panels.setdefault(panel["column"], {**panel, "series": []})
                merged["series"] += [{**one, "run": index, "name": f"{name}: {one['name']}"} for one in series]
    return {"panels": list(panels.values())} if panels else None


def _series_of(history: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    found = []
    for name, event in _SERIES.items():
        # The speed of the evaluation is in the header, and epochs have no learning rate.
        if column == "images_per_second" and event == "eval_end":
            continue
        rows = history[history["event"] == event].dropna(subset=[column]).sort_values("step", kind="stable")
        if rows.empty:
            continue
        steps, values = rows["step"].to_numpy(np.float64), rows[column].to_numpy(np.float64)
        kept = _thin_out(values)
        found.append(
            {
                "name": name,
                "event": event,
                "step": steps[kept].tolist(),
                "epoch": _epochs_at(history, steps[kept]).round(3).tolist(),
                "value": [float(f"{value:.6g}") for value in values[kept]],
            }
        )
    return found


def _epochs_at(history: pd.DataFrame, steps: NDArray[np.float64]) -> NDArray[np.float64]:
    ends = history[history["event"].isin(["epoch_end", "eval_end"])].dropna(subset=["epoch"]).sort_values("step")
    ends = ends.drop_duplicates("step")
    if ends.empty:
        return np.zeros(len(steps))
    known, epochs = ends["step"].to_numpy(np.float64), ends["epoch"].to_numpy(np.float64)
    if known[0] > 0:
        known, epochs = np.concatenate([[0.0], known]), np.concatenate([[max(epochs[0] - 1, 0)], epochs])
    # An unfinished epoch continues at the speed of the last finished epoch.
    rate = (epochs[-1] - epochs[-2]) / (known[-1] - known[-2]) if len(known) > 1 else 0.0
    beyond = np.maximum(steps - known[-1], 0) * rate
    at: NDArray[np.float64] = np.interp(steps, known, epochs) + beyond
    return at


def _thin_out(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the positions of the points to keep: the lowest and highest per interval, the first and the last."""
    if len(values) <= MAX_POINTS:
        return np.arange(len(values))
    parts = np.array_split(np.arange(len(values)), MAX_POINTS // 2 - 1)
    extremes = [part[index] for part in parts for index in (values[part].argmin(), values[part].argmax())]
    return np.unique(np.array([0, *extremes, len(values) - 1]))
