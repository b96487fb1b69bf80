"""The predictions of an evaluation, checked and as arrays: one row an image of the val list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import EvaluationTableError

COLUMNS = ("path", "label", "top5_ids", "top5_probabilities", "loss")
TOP = 5
# A softmax in float32 may exceed 1 by a few units in the last place.
_PROBABILITY_SLACK = 1e-5
_RUN_AGAIN = "run the evaluation pipeline again"


@dataclass(frozen=True)
class PredictionTable:
    """N predictions as arrays; k is min(5, number of classes)."""

    paths: NDArray[np.object_]
    """[N], each once."""
    labels: NDArray[np.int64]
    """[N], true class ids."""
    top_ids: NDArray[np.int64]
    """[N, k], the likeliest class first; no class twice in a row."""
    top_probabilities: NDArray[np.float64]
    """[N, k], falling, 0..1."""
    losses: NDArray[np.float64]
    """[N], finite."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """[N], the likeliest class of each image."""
        first: NDArray[np.int64] = self.top_ids[:, 0]
        return first

    @property
    def is_top1(self) -> NDArray[np.bool_]:
        """[N], the likeliest class is the true one."""
        hits: NDArray[np.bool_] = self.predicted == self.labels
        return hits

    @property
    def is_top5(self) -> NDArray[np.bool_]:
        """[N], the true class is among the k likeliest."""
        hits: NDArray[np.bool_] = (self.top_ids == self.labels[:, None]).any(axis=1)
        return hits


def read_prediction_table(predictions: pd.DataFrame, class_num: int | None = None) -> PredictionTable:
    """Check a predictions table and return its arrays; without `class_num` ids have no upper bound.

    Raises:
        EvaluationTableError: a column is missing, there is no row, a path stands twice, a label or id is outside
            0..class_num-1, a row of the top 5 is short, repeats a class or does not fall, or a loss is not finite.
    """
    missing = [column for column in COLUMNS if column not in predictions.columns]
    if missing:
        raise EvaluationTableError(
            [
                f"predictions: the columns {', '.join(missing)} are missing (there are "
                f"{', '.join(map(str, predictions.columns)) or 'none'}); {_RUN_AGAIN}"
            ]
        )
    if predictions.empty:
        raise EvaluationTableError([f"predictions: there is no row; an evaluation has one an image; {_RUN_AGAIN}"])
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


def _whole_numbers(column: pd.Series[Any], problems: list[str]) -> NDArray[np.int64] | None:
    if not pd.api.types.is_integer_dtype(column.dtype) or column.isna().any():
        problems.append(
            f"predictions: the column label must be whole numbers without gaps, it is {column.dtype} with "
            f"{int(column.isna().sum())} empty cells; {_RUN_AGAIN}"
        )
        return None
    return column.to_numpy(dtype=np.int64)


def _matrix(column: pd.Series[Any], dtype: np.dtype[Any], problems: list[str]) -> NDArray[Any] | None:
    """Return a column of lists as [N, k], or None and a problem where they are not lists of one length."""
    rows = column.tolist()
    lengths = np.array([len(row) if isinstance(row, (list, tuple, np.ndarray)) else -1 for row in rows])
    k = int(lengths.max())
    wrong = np.flatnonzero((lengths != k) | (lengths < 1))
    if wrong.size:
        row = int(wrong[0])
        problems.append(
            f"predictions row {row}: {column.name} is {rows[row]!r}, but every row must be a list of the same length "
            f"({max(k, 1)}; {wrong.size} rows are not); {_RUN_AGAIN}"
        )
        return None
    values = np.array(rows)
    if not np.can_cast(values.dtype, dtype, casting="same_kind"):
        problems.append(f"predictions: {column.name} must hold {dtype} values, it holds {values.dtype}; {_RUN_AGAIN}")
        return None
    return values.astype(dtype)


def _problems_of_paths(table: PredictionTable) -> list[str]:
    repeated = pd.Series(table.paths).duplicated()
    if not repeated.any():
        return []
    row = int(np.flatnonzero(repeated)[0])
    return [
        f"predictions row {row}: {table.paths[row]} stands here a second time ({int(repeated.sum())} such rows); "
        f"every image counts once: check the val list for repeated lines"
    ]


def _problems_of_ids(table: PredictionTable, class_num: int | None) -> list[str]:
    problems = []
    largest = np.iinfo(np.int64).max if class_num is None else class_num - 1
    allowed = "0 or more" if class_num is None else f"within 0..{largest} (class_num is {class_num})"
    for what, ids, advice in (
        ("label", table.labels, "the val list and the label map disagree: run data_preparation again"),
        ("a top-5 id", table.top_ids, "the checkpoint has another class_num: run training again"),
    ):
        outside = (ids < 0) | (ids > largest)
        if outside.any():
            row = int(np.argwhere(outside)[0][0])
            problems.append(
                f"predictions row {row} ({table.paths[row]}): {what} is {ids[outside][0]}, it must be {allowed}; "
                f"{int(outside.sum())} such values; {advice}"
            )
    k = table.top_ids.shape[1]
    if class_num is not None and k != min(TOP, class_num):
        problems.append(
            f"predictions: top5_ids has {k} ids a row, it must have {min(TOP, class_num)} for {class_num} classes; "
            f"{_RUN_AGAIN}"
        )
    ordered = np.sort(table.top_ids, axis=1)
    repeated = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if repeated.size:
        row = int(repeated[0])
        problems.append(
            f"predictions row {row} ({table.paths[row]}): top5_ids {table.top_ids[row].tolist()} names a class twice "
            f"({repeated.size} such rows); {_RUN_AGAIN}"
        )
    return problems


def _problems_of_values(table: PredictionTable) -> list[str]:
    problems = []
    probabilities = table.top_probabilities
    if probabilities.shape != table.top_ids.shape:
        return [
            f"predictions: top5_probabilities has {probabilities.shape[1]} values a row and top5_ids "
            f"{table.top_ids.shape[1]}; both must have as many; {_RUN_AGAIN}"
        ]
    # Written so that NaN breaks the rule too.
    in_range = (probabilities >= 0) & (probabilities <= 1 + _PROBABILITY_SLACK)
    falling = probabilities[:, 1:] <= probabilities[:, :-1]
    wrong = np.flatnonzero(~(in_range.all(axis=1) & falling.all(axis=1)))
    if wrong.size:
        row = int(wrong[0])
        problems.append(
            f"predictions row {row} ({table.paths[row]}): top5_probabilities {probabilities[row].tolist()} must fall "
            f"from the first to the last and lie within 0..1 ({wrong.size} such rows); {_RUN_AGAIN}"
        )
    not_finite = np.flatnonzero(~np.isfinite(table.losses))
    if not_finite.size:
        row = int(not_finite[0])
        problems.append(
            f"predictions row {row} ({table.paths[row]}): loss is {table.losses[row]} ({not_finite.size} such rows); "
            f"the checkpoint's weights are probably not finite: train again with a lower learning rate"
        )
    return problems
