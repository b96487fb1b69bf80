"""The numbers behind the pictures as CSV files, from which DVC draws its own and compares revisions (dvc.yaml)."""

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
# One line each, over epochs: what the training saw, and what the validation.
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
    """Write `train.csv`, `validation.csv`, `classes.csv`, `reliability.csv`; up to `max_classes`, `confusion.csv` too.

    `confusion.csv` has a row an image, `actual` and `predicted`, which is what DVC's template wants; the first
    two there are not without a history.

    Raises:
        EvaluationTableError: a table is malformed.
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
