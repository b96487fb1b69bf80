"""Evaluates predictions against several true labels per image, such as ImageNet's ReaL labels.

ReaL's `real.json` (Beyer et al. 2020, "Are we done with ImageNet?") is a list of 50,000 lists of class ids, in the
order ILSVRC2012_val_00000001, ILSVRC2012_val_00000002, and so on. Images with an empty list are ignored. For other
datasets, the file is an object keyed by path or file name:

    {"val/n00000003/5.JPEG": [3], "6.JPEG": [3, 7], "7.JPEG": []}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.intervals import interval_of_share
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table

TrueLabels = Sequence[Sequence[int]] | Mapping[str, Sequence[int]]

_VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")
_FILE: TypeAdapter[TrueLabels] = TypeAdapter(list[list[int]] | dict[str, list[int]])


def read_true_labels(path: Path) -> TrueLabels:
    """Read the true labels from a file in either of the two formats above.

    Raises:
        EvaluationTableError: if the file cannot be read or has neither format.
    """
    try:
        return _FILE.validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
    except ValidationError as error:
        # pydantic reports errors for both formats. The most deeply nested error belongs to the format that the file
        # resembles.
        first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
        # The first part identifies the format. The rest is a position such as 17.0 or val/5.JPEG.0.
        position = ".".join(map(str, first["loc"][1:]))
        problem = (
            f"{path} must be a list of lists of class ids, as in ReaL's real.json, or an object with one such list "
            f"per path or file name: {f'at {position}: ' if position else ''}{first['msg']}"
        )
    raise EvaluationTableError([f"evaluation.true_labels: {problem}"])


def true_label_metrics(
    predictions: pd.DataFrame, true_labels: TrueLabels, class_num: int, resamples: int
) -> dict[str, float]:
    """Return accuracies that count a prediction as correct if it matches any of the image's true labels.

    Keys: `real_top1` with `real_top1_low` and `real_top1_high` (95% confidence interval), `real_top5`, `real_images`
    (number of images with true labels) and `images_without_true_label` (number of ignored images).

    Raises:
        EvaluationTableError: if a predicted image has no entry, a class id is out of range, or no image has a true
            label.
    """
    table = read_prediction_table(predictions, class_num)
    labels = _labels_by_row(table, true_labels)
    is_correct = _mark_correct(table, labels, class_num)
    counts = np.array([len(one) > 0 for one in labels])
    images = int(counts.sum())
    if not images:
        raise EvaluationTableError(
            ["evaluation.true_labels: no image has a true label; choose a file that matches the image list"]
        )
    hits = int(is_correct[counts, 0].sum())
    interval = interval_of_share(hits, images, resamples)
    return {
        "real_top1": hits / images,
        "real_top1_low": interval.low,
        "real_top1_high": interval.high,
        "real_top5": float(is_correct[counts].any(axis=1).mean()),
        "real_images": images,
        "images_without_true_label": len(counts) - images,
    }


def _labels_by_row(table: PredictionTable, true_labels: TrueLabels) -> list[Sequence[int]]:
    found: list[Sequence[int] | None] = [_find(path, true_labels) for path in table.paths]
    missing = [row for row, labels in enumerate(found) if labels is None]
    if missing:
        raise EvaluationTableError(
            [
                f"evaluation.true_labels: no entry for {table.paths[row]}; for images other than ILSVRC2012_val_…, the "
                "file must contain a JSON object whose keys are paths or file names"
                for row in missing
            ]
        )
    return [labels for labels in found if labels is not None]


def _find(path: str, true_labels: TrueLabels) -> Sequence[int] | None:
    if isinstance(true_labels, Mapping):
        return true_labels.get(path, true_labels.get(PurePosixPath(path).name))
    match = _VAL_NAME.search(path)
    number = int(match[1]) if match else 0
    return true_labels[number - 1] if 1 <= number <= len(true_labels) else None


def _mark_correct(table: PredictionTable, labels: list[Sequence[int]], class_num: int) -> NDArray[np.bool_]:
    """Return a boolean array [N, k] that is True where a predicted class is a true class of the image."""
    lengths = np.array([len(one) for one in labels])
    flat = np.array([label for one in labels for label in one], dtype=np.int64)
    if flat.size and not (flat.min() >= 0 and flat.max() < class_num):
        wrong = int(flat[(flat < 0) | (flat >= class_num)][0])
        raise EvaluationTableError([f"evaluation.true_labels: class id {wrong} is outside 0..{class_num - 1}"])
    rows = np.repeat(np.arange(len(labels)), lengths)
    true_pairs = np.sort(rows * class_num + flat)
    pairs = np.arange(len(labels))[:, None] * class_num + table.top_ids
    correct: NDArray[np.bool_] = np.isin(pairs, true_pairs)
    return correct
