"""Writes the data for the figures to CSV files. DVC plots these files and compares them across revisions (dvc.yaml)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.reporting.calibration import reliability_table
from resnet50_pipeline.reporting.classes import read_class_names
from resnet50_pipeline.reporting.prediction_table import read_prediction_table

FOLDER = "tables"
CONFUSION, CLASSES, RELIABILITY = "confusion.csv", "classes.csv", "reliability.csv"
# The history event that each file contains.
EPOCHS = {"train.csv": "epoch_end", "validation.csv": "eval_end"}


def write_plot_tables(
    directory: Path,
    *,
    predictions: pd.DataFrame,
    per_class: pd.DataFrame,
    label_map: Mapping[str, Any],
    training_history: pd.DataFrame | None,
    max_classes: int,
) -> list[Path]:
    """Write the tables to `directory/tables` and return their paths.

    `classes.csv` and `reliability.csv` are always written. `train.csv` and `validation.csv` are written if there is a
    training history. `confusion.csv` is written if there are at most `max_classes` classes. It contains one row per
    image with the columns `actual` and `predicted`, as DVC's confusion template requires.

    Raises:
        EvaluationTableError: if a table is malformed.
    """
    labels = read_class_names(label_map).labels
    tables = {
        CLASSES: per_class[["id", "name", "images", "top1", "top5"]],
        RELIABILITY: reliability_table(predictions).dropna(),
    }
    if training_history is not None:
        for name, event in EPOCHS.items():
            rows = training_history[training_history["event"] == event]
            tables[name] = rows[["epoch", "step", "loss", "top1"]]
    if len(labels) <= max_classes:
        table = read_prediction_table(predictions, len(labels))
        tables[CONFUSION] = pd.DataFrame(
            {
                "actual": [labels[class_id] for class_id in table.labels],
                "predicted": [labels[class_id] for class_id in table.predicted],
            }
        )
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        content.to_csv(folder / name, index=False, float_format="%.6g")
    return [folder / name for name in tables]
