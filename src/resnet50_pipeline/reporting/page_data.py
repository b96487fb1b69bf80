"""Collects the data that a report's script draws, as compressed JSON."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.reporting.calibration import bin_confidences
from resnet50_pipeline.reporting.class_intervals import add_intervals, wilson_interval
from resnet50_pipeline.reporting.classes import ClassNames
from resnet50_pipeline.reporting.prediction_table import PredictionTable
from resnet50_pipeline.reporting.thumbnails import choose_images, make_thumbnails

MAX_IMAGES = 100_000
"""Maximum number of images in a page's image browser. If there are more images, all wrong predictions come first."""
PROBABILITY_UNIT = 1_000_000
_CLASS_COLUMNS = (
    *("images", "correct", "predicted", "top1", "top1_low", "top1_high", "precision", "precision_low"),
    *("precision_high", "f1", "f1_low", "f1_high", "top5", "confused_with", "confused_images"),
)


def pack(data: Mapping[str, Any]) -> str:
    """Return data as base64-encoded, gzipped JSON. NaN becomes null. Equal data always yields the same text."""
    text = json.dumps(_plain(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")


def unpack(packed: str) -> dict[str, Any]:
    """Return the data from `pack`."""
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
    return data


def describe_classes(per_class: pd.DataFrame, names: ClassNames) -> dict[str, Any]:
    """Return the columns of the class table, with intervals. The position in a list is the class id."""
    table = add_intervals(per_class)
    return {
        "name": names.labels,
        "synset": names.synsets,
        **{column: _round(table[column]) for column in _CLASS_COLUMNS},
        "below": table["is_below_average"].astype(int).tolist(),
    }


def describe_images(
    table: PredictionTable, image_root: Path, limit: int, rival: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return one list per column for the image browser, and the thumbnails of at most `limit` images.

    Args:
        table: the predictions.
        image_root: folder that the paths are relative to.
        limit: maximum number of thumbnails.
        rival: class predicted by the other model, keyed by path, for each image that only one model classified
            correctly.
    """
    rows = _listed_rows(table)
    thumbnails = make_thumbnails({row: image_root / table.paths[row] for row in choose_images(table, limit)})
    position = {row: index for index, row in enumerate(rows.tolist())}
    is_true = table.top_ids == table.labels[:, None]
    true_probability = np.where(is_true.any(axis=1), (table.top_probabilities * is_true).sum(axis=1), np.nan)
    paths = [str(path) for path in table.paths[rows]]
    return {
        "total": len(table.paths),
        "path": paths,
        "label": table.labels[rows].tolist(),
        "predicted": table.predicted[rows].tolist(),
        "probability": _in_units(table.top_probabilities[rows, 0]),
        "trueProbability": _in_units(np.nan_to_num(true_probability[rows], nan=-1)),
        **({"rival": [rival.get(path, -1) for path in paths]} if rival else {}),
        "thumbnails": {position[row]: image for row, image in thumbnails.images.items() if row in position},
        "problems": {position[row]: problem for row, problem in thumbnails.problems.items() if row in position},
        "top": {
            position[row]: [table.top_ids[row].tolist(), _in_units(table.top_probabilities[row])]
            for row in thumbnails.images
            if row in position
        },
    }


def describe_confusion(table: PredictionTable, class_num: int) -> list[list[int]]:
    """Return the nonzero cells of the confusion matrix as three lists: true ids, predicted ids and image counts."""
    codes, images = np.unique(table.labels * class_num + table.predicted, return_counts=True)
    return [(codes // class_num).tolist(), (codes % class_num).tolist(), images.tolist()]


def describe_reliability(table: PredictionTable) -> list[dict[str, Any]]:
    """Return the bins of the reliability diagram, with 95% confidence intervals for their accuracies."""
    bins = bin_confidences(table)
    images = bins["images"].to_numpy(np.float64)
    low, high = wilson_interval((bins["accuracy"].fillna(0) * images).round().to_numpy(), images)
    rows = bins.assign(accuracy_low=low, accuracy_high=high).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _listed_rows(table: PredictionTable) -> NDArray[np.int64]:
    if len(table.paths) <= MAX_IMAGES:
        return np.arange(len(table.paths))
    order = np.lexsort((np.where(table.is_top1, 1, -1) * table.top_probabilities[:, 0], table.is_top1))
    return np.sort(order[:MAX_IMAGES])


def _in_units(probabilities: NDArray[np.float64]) -> list[int]:
    units: list[int] = np.round(probabilities * PROBABILITY_UNIT).astype(np.int64).tolist()
    return units


def _round(column: pd.Series[Any]) -> list[Any]:
    values: list[Any] = (column.round(6) if column.dtype.kind == "f" else column).tolist()
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
