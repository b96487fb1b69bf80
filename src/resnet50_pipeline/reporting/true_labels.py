"""Images with several right answers: ImageNet's ReaL labels, and other files of their kind.

ReaL (Beyer et al. 2020, "Are we done with ImageNet?"): `real.json` is a list of 50,000 lists of class ids, the first
that of ILSVRC2012_val_00000001; an image without any right class is left out. Other data sets: an object,

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
    """Return the classes that a file of either kind gives.

    Raises:
        EvaluationTableError: it is not there, or is neither.
    """
    try:
        return _FILE.validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
    except ValidationError as error:
        # That of the kind whose shape fits better, which is the deeper one.
        first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
        # Behind the name of the kind: a place, as 17.0 or val/5.JPEG.0.
        place = ".".join(map(str, first["loc"][1:]))
        problem = (
            f"{path} is neither a list of lists of class ids, as ReaL's real.json, nor an object of them by path or "
            f"file name: {f'at {place}: ' if place else ''}{first['msg']}"
        )
    raise EvaluationTableError([f"evaluation.true_labels: {problem}"])


def true_label_metrics(
    predictions: pd.DataFrame, true_labels: TrueLabels, class_num: int, resamples: int
) -> dict[str, float]:
    """Return accuracies where any of an image's true classes is right.

    `real_top1` with `real_top1_low` and `real_top1_high` (95 % interval), `real_top5`, `real_images` (that count) and
    `images_without_true_label` (that do not).

    Raises:
        EvaluationTableError: an image of the predictions is not in the file, or it names a class that there is not.
    """
    table = read_prediction_table(predictions, class_num)
    labels = _labels_by_row(table, true_labels)
    is_right = _mark_right_answers(table, labels, class_num)
    counts = np.array([len(one) > 0 for one in labels])
    images = int(counts.sum())
    if not images:
        raise EvaluationTableError(["evaluation.true_labels: gives none of the images a class"])
    hits = int(is_right[counts, 0].sum())
    interval = interval_of_share(hits, images, resamples)
    return {
        "real_top1": hits / images,
        "real_top1_low": interval.low,
        "real_top1_high": interval.high,
        "real_top5": float(is_right[counts].any(axis=1).mean()),
        "real_images": images,
        "images_without_true_label": len(counts) - images,
    }


def _labels_by_row(table: PredictionTable, true_labels: TrueLabels) -> list[Sequence[int]]:
    found: list[Sequence[int] | None] = [_find(path, true_labels) for path in table.paths]
    missing = [row for row, labels in enumerate(found) if labels is None]
    if missing:
        raise EvaluationTableError(
            [
                f"evaluation.true_labels: has no entry for {table.paths[row]} (a list is for ILSVRC2012_val_… only; "
                f"an object is by path or file name)"
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


def _mark_right_answers(table: PredictionTable, labels: list[Sequence[int]], class_num: int) -> NDArray[np.bool_]:
    """Return [N, k]: which of an image's likeliest classes is one of its true ones."""
    lengths = np.array([len(one) for one in labels])
    flat = np.array([label for one in labels for label in one], dtype=np.int64)
    if flat.size and not (flat.min() >= 0 and flat.max() < class_num):
        wrong = int(flat[(flat < 0) | (flat >= class_num)][0])
        raise EvaluationTableError([f"evaluation.true_labels: names class {wrong}; ids are 0..{class_num - 1}"])
    rows = np.repeat(np.arange(len(labels)), lengths)
    true_pairs = np.sort(rows * class_num + flat)
    pairs = np.arange(len(labels))[:, None] * class_num + table.top_ids
    right: NDArray[np.bool_] = np.isin(pairs, true_pairs)
    return right
