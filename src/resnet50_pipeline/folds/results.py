"""Stores the result of each fold, and summarizes the results by their mean and standard deviation."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from resnet50_pipeline.child_runs.run_file import metrics_path_of
from resnet50_pipeline.files import write_text
from resnet50_pipeline.frozen_model import FrozenModel

METRICS = ("top1", "balanced_accuracy", "loss")
_RESULT = "result.json"


class FoldResult(FrozenModel):
    """The metrics of a fold on its val images. Accuracies are fractions in 0..1.

    Attributes:
        fold: number of the fold, starting at 1.
        images: number of val images.
        seconds: duration of the run that completed the fold. Earlier, interrupted runs do not count.
    """

    fold: int
    images: int
    top1: float
    balanced_accuracy: float
    loss: float
    seconds: float


class Summary(FrozenModel):
    """The mean of a metric over n folds, and its sample standard deviation (divisor n - 1); None for one fold."""

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
