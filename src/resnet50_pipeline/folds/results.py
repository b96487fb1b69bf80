"""Stores the result of each fold, and computes the mean and standard deviation over the folds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from resnet50_pipeline.child_runs.run_file import label_map_path_of, metrics_path_of, predictions_path_of
from resnet50_pipeline.files import replacing_file, write_text
from resnet50_pipeline.frozen_model import FrozenModel
from resnet50_pipeline.reporting.classes import read_class_names
from resnet50_pipeline.reporting.data_quality.label_issues import CLASSES_ATTRIBUTE, tabulate_label_issues
from resnet50_pipeline.reporting.prediction_table import read_prediction_table

METRICS = ("top1", "balanced_accuracy", "loss")
_RESULT = "result.json"


class FoldResult(FrozenModel):
    """The metrics of a fold on its val images. Accuracies are fractions in 0..1.

    Attributes:
        fold: number of the fold, starting at 1.
        images: number of val images.
        seconds: duration of the run that completed the fold, excluding earlier interrupted runs.
    """

    fold: int
    images: int
    top1: float
    balanced_accuracy: float
    loss: float
    seconds: float


class Summary(FrozenModel):
    """The mean of a metric over n folds, and its sample standard deviation (divisor n - 1; None for a single fold)."""

    mean: float
    std: float | None
    n: int


def save_result(folder: Path, number: int, seconds: float) -> FoldResult:
    """Read the metrics of a fold's run, write them to the fold's folder, and return them."""
    metrics = json.loads(metrics_path_of(folder).read_text(encoding="utf-8"))
    values = {name: metrics[name] for name in METRICS}
    result = FoldResult(fold=number, images=int(metrics["images"]), seconds=round(seconds, 1), **values)
    write_text(folder / _RESULT, result.model_dump_json(indent=2) + "\n")
    return result


def read_result(folder: Path) -> FoldResult | None:
    """Return the result of a fold, or None if the fold has not been completed."""
    path = folder / _RESULT
    return FoldResult.model_validate_json(path.read_bytes()) if path.is_file() else None


def summarize(results: Sequence[FoldResult]) -> dict[str, Summary]:
    """Return the mean and the standard deviation of each of `METRICS` over the folds."""
    summaries = {}
    for name in METRICS:
        values = [float(getattr(result, name)) for result in results]
        std = statistics.stdev(values) if len(values) > 1 else None
        summaries[name] = Summary(mean=statistics.fmean(values), std=std, n=len(values))
    return summaries


def write_table(path: Path, results: Sequence[FoldResult]) -> None:
    """Write one row per fold as CSV."""
    write_text(path, pd.DataFrame([result.model_dump() for result in results]).to_csv(index=False))


def write_out_of_fold_predictions(folder: Path, fold_folders: Sequence[Path]) -> tuple[Path, Path]:
    """Write the predictions for all images. Each comes from the fold whose model was not trained on the image.

    Returns:
        `out_of_fold_predictions.parquet` in `folder`, with the columns of the predictions and `fold` (from 1), and
        `label_issues.csv`, a fix list of the images whose labels are probably wrong.
    """
    parts = [
        pd.read_parquet(predictions_path_of(fold_folder)).assign(fold=number)
        for number, fold_folder in enumerate(fold_folders, start=1)
    ]
    predictions = pd.concat(parts, ignore_index=True)
    table, issues = folder / "out_of_fold_predictions.parquet", folder / "label_issues.csv"
    names = read_class_names(json.loads(label_map_path_of(fold_folders[0]).read_text(encoding="utf-8")))
    predictions.attrs[CLASSES_ATTRIBUTE] = names.keys
    with replacing_file(table) as temporary:
        predictions.to_parquet(temporary, index=False)
    # Folds contain the images of both lists. Without a split, `kedro data-fix` changes the list that has the image.
    found = tabulate_label_issues({"": read_prediction_table(predictions, len(names))}, names)
    write_text(issues, found.to_csv(index=False, float_format="%.6f"))
    return table, issues
