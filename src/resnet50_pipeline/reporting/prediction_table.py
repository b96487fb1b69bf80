"""Validates the predictions of an evaluation (one row per image) and converts them to arrays."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import EvaluationTableError

COLUMNS = ("path", "label", "top5_ids", "top5_probabilities", "loss")
TOP = 5
# Softmax in float32 can exceed 1 by a few units in the last place.
_PROBABILITY_SLACK = 1e-5
_RUN_AGAIN = "run the evaluation pipeline again"


@dataclass(frozen=True)
class PredictionTable:
    """Predictions for N images as arrays. In the shapes, k is min(5, number of classes)."""

    paths: NDArray[np.object_]
    """[N] unique image paths."""
    labels: NDArray[np.int64]
    """[N] true class ids."""
    top_ids: NDArray[np.int64]
    """[N, k] unique class ids, in descending order of probability."""
    top_probabilities: NDArray[np.float64]
    """[N, k] probabilities in 0..1, in descending order."""
    losses: NDArray[np.float64]
    """[N] finite losses."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """[N] predicted class ids."""
        first: NDArray[np.int64] = self.top_ids[:, 0]
        return first

    @property
    def is_top1(self) -> NDArray[np.bool_]:
        """[N] True where the predicted class is the true class."""
        hits: NDArray[np.bool_] = self.predicted == self.labels
        return hits

    @property
    def is_top5(self) -> NDArray[np.bool_]:
        """[N] True where the true class is among the top k classes."""
        hits: NDArray[np.bool_] = (self.top_ids == self.labels[:, None]).any(axis=1)
        return hits


def read_prediction_table(predictions: pd.DataFrame, class_num: int | None = None) -> PredictionTable:
    """Validate a predictions table and convert it to arrays. If `class_num` is None, ids have no upper bound.

    Raises:
        EvaluationTableError: if a column is missing, the table is empty, a path is repeated, a label or id is outside
            0..class_num-1, a loss is not finite, or a top-5 row is too short, repeats a class or is not in descending
            order.
    """
    missing = [column for column in COLUMNS if column not in predictions.columns]
    if missing:
        raise EvaluationTableError(
            [
                f"predictions: the columns {', '.join(missing)} are missing (found: "
                f"{', '.join(map(str, predictions.columns)) or 'none'}); {_RUN_AGAIN}"
            ]
        )
    if predictions.empty:
        raise EvaluationTableError(
            [f"predictions: the table is empty, but an evaluation has one row per image; {_RUN_AGAIN}"]
        )
    problems: list[str] = []
    paths = predictions["path"].to_numpy(dtype=object)
    labels = _whole_numbers(predictions["label"], problems)
    top_ids = _matrix(predictions["top5_ids"], np.dtype(np.int64), problems)
    top_probabilities = _matrix(predictions["top5_probabilities"], np.dtype(np.float64), problems)
    if labels is None or top_ids is None or top_probabilities is None:
        raise EvaluationTableError(problems)
    losses = predictions["loss"].to_numpy(dtype=np.float64, na_value=np.nan)
    table = PredictionTable(paths, labels, top_ids, top_probabilities, losses)
    problems += [*_problems_of_paths(table), *_problems_of_ids(table, class_num), *_problems_of_values(table)]
    if problems:
        raise EvaluationTableError(problems)
    return table


def locate_images(table: PredictionTable, image_root: Path, dataset_root: Path) -> PredictionTable:
    """Return the predictions with paths relative to the dataset root, and absolute paths of images outside it.

    Relative paths identify the images of the dataset, for example in a fix list. An image in another folder, such as a
    second val set, can have the same path relative to that folder.

    Args:
        table: predictions with paths relative to `image_root`.
        image_root: folder of the evaluated images.
        dataset_root: folder of the dataset.
    """
    root, dataset = image_root.resolve(), dataset_root.resolve()
    places = [Path(os.path.normpath(root / path)) for path in table.paths]
    paths = [str(path.relative_to(dataset) if path.is_relative_to(dataset) else path) for path in places]
    return replace(table, paths=np.array(paths, dtype=object))


def _whole_numbers(column: pd.Series[Any], problems: list[str]) -> NDArray[np.int64] | None:
    if not pd.api.types.is_integer_dtype(column.dtype) or column.isna().any():
        problems.append(
            f"predictions: the label column must contain an integer in every row, but has type {column.dtype} and "
            f"{int(column.isna().sum())} empty cells; {_RUN_AGAIN}"
        )
        return None
    return column.to_numpy(dtype=np.int64)


def _matrix(column: pd.Series[Any], dtype: np.dtype[Any], problems: list[str]) -> NDArray[Any] | None:
    """Return a column of lists as an array [N, k]. Append a problem and return None if the lengths differ."""
    rows = column.tolist()
    lengths = np.array([len(row) if isinstance(row, (list, tuple, np.ndarray)) else -1 for row in rows])
    k = int(lengths.max())
    wrong = np.flatnonzero((lengths != k) | (lengths < 1))
    if wrong.size:
        row = int(wrong[0])
        problems.append(
            f"predictions row {row}: {column.name} is {rows[row]!r}, but every row must be a list of length "
            f"{max(k, 1)} ({wrong.size} rows are not); {_RUN_AGAIN}"
        )
        return None
    values = np.array(rows)
    if not np.can_cast(values.dtype, dtype, casting="same_kind"):
        problems.append(
            f"predictions: {column.name} must contain {dtype} values, but contains {values.dtype}; {_RUN_AGAIN}"
        )
        return None
    return values.astype(dtype)


def _problems_of_paths(table: PredictionTable) -> list[str]:
    repeated = pd.Series(table.paths).duplicated()
    if not repeated.any():
        return []
    row = int(np.flatnonzero(repeated)[0])
    return [
        f"predictions row {row}: {table.paths[row]} is repeated ({int(repeated.sum())} such rows), but each image "
        f"must occur once; check the val list for repeated lines"
    ]


def _problems_of_ids(table: PredictionTable, class_num: int | None) -> list[str]:
    problems = []
    largest = np.iinfo(np.int64).max if class_num is None else class_num - 1
    allowed = "0 or more" if class_num is None else f"within 0..{largest} (class_num is {class_num})"
    for what, ids, advice in (
        ("label", table.labels, "the val list does not match the label map: run data_preparation again"),
        ("top-5 id", table.top_ids, "the checkpoint was trained with a different class_num: run training again"),
    ):
        outside = (ids < 0) | (ids > largest)
        if outside.any():
            row = int(np.argwhere(outside)[0][0])
            problems.append(
                f"predictions row {row} ({table.paths[row]}): {what} {ids[outside][0]} must be {allowed} "
                f"({int(outside.sum())} such values); {advice}"
            )
    k = table.top_ids.shape[1]
    if class_num is not None and k != min(TOP, class_num):
        problems.append(
            f"predictions: top5_ids has {k} ids per row, but must have {min(TOP, class_num)} for {class_num} classes; "
            f"{_RUN_AGAIN}"
        )
    ordered = np.sort(table.top_ids, axis=1)
    repeated = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if repeated.size:
        row = int(repeated[0])
        problems.append(
            f"predictions row {row} ({table.paths[row]}): top5_ids {table.top_ids[row].tolist()} repeats a class "
            f"({repeated.size} such rows); {_RUN_AGAIN}"
        )
    return problems


def _problems_of_values(table: PredictionTable) -> list[str]:
    problems = []
    probabilities = table.top_probabilities
    if probabilities.shape != table.top_ids.shape:
        return [
            f"predictions: top5_probabilities has {probabilities.shape[1]} values per row, but top5_ids has "
            f"{table.top_ids.shape[1]}; {_RUN_AGAIN}"
        ]
    # Comparisons with NaN are False, so NaN fails this check.
    in_range = (probabilities >= 0) & (probabilities <= 1 + _PROBABILITY_SLACK)
    falling = probabilities[:, 1:] <= probabilities[:, :-1]
    wrong = np.flatnonzero(~(in_range.all(axis=1) & falling.all(axis=1)))
    if wrong.size:
        row = int(wrong[0])
        problems.append(
            f"predictions row {row} ({table.paths[row]}): top5_probabilities {probabilities[row].tolist()} must be in "
            f"descending order and within 0..1 ({wrong.size} such rows); {_RUN_AGAIN}"
        )
    not_finite = np.flatnonzero(~np.isfinite(table.losses))
    if not_finite.size:
        row = int(not_finite[0])
        problems.append(
            f"predictions row {row} ({table.paths[row]}): loss is {table.losses[row]} ({not_finite.size} such rows); "
            f"the checkpoint's weights are probably not finite: train again with a lower learning rate"
        )
    return problems
