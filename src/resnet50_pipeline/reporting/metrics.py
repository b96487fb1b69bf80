"""Computes accuracies, confusions and mistakes from a table of predictions, vectorized over images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.calibration import calibration_errors
from resnet50_pipeline.reporting.classes import read_class_names
from resnet50_pipeline.reporting.intervals import interval_of_class_mean, interval_of_share
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table

RESAMPLES = 2_000
_SPEEDS = ("images_per_second", "images_per_second_without_loading", "seconds")


def compute_metrics(
    predictions: pd.DataFrame, evaluation_summary: Mapping[str, Any], resamples: int = RESAMPLES
) -> dict[str, float]:
    """Return the metrics of an evaluation as a flat dictionary. Accuracies are fractions in 0..1.

    - `top1`, `top5` (true class among the first min(5, classes)) and `balanced_accuracy` (mean accuracy over the
      classes with images, equal to macro-averaged recall). For each of these metrics, `…_low` and `…_high` are the ends
      of the 95% confidence interval, computed from `resamples` bootstrap resamples.
    - `macro_precision` and `macro_f1`: means over the classes that have images or predictions, as in scikit-learn with
      zero_division=0.
    - `loss` (mean), and `ece`, `mce` and `mean_confidence` (see `calibration_errors`).
    - `images`, `classes` (number of classes with images), `images_per_second`, `images_per_second_without_loading` and
      `seconds`.

    Raises:
        EvaluationTableError: if the table is malformed, a value is missing from the summary, or the summary has a
            different number of images.
    """
    table = read_prediction_table(predictions)
    _check_summary(table, evaluation_summary)
    labels, row_class = np.unique(table.labels, return_inverse=True)
    images_of_class = np.bincount(row_class)
    hits_of_class = np.bincount(row_class, weights=table.is_top1).astype(np.int64)
    count = len(table.labels)
    intervals = {
        "top1": interval_of_share(int(table.is_top1.sum()), count, resamples),
        "top5": interval_of_share(int(table.is_top5.sum()), count, resamples),
        "balanced_accuracy": interval_of_class_mean(hits_of_class, images_of_class, resamples),
    }
    values = {
        "top1": float(table.is_top1.mean()),
        "top5": float(table.is_top5.mean()),
        "balanced_accuracy": float((hits_of_class / images_of_class).mean()),
    }
    return {
        **values,
        **{f"{name}_low": interval.low for name, interval in intervals.items()},
        **{f"{name}_high": interval.high for name, interval in intervals.items()},
        **_macro_averages(table),
        **calibration_errors(table),
        # fsum is exact, so the order of the rows does not change the last digit.
        "loss": math.fsum(table.losses) / len(table.losses),
        "images": len(table.labels),
        "classes": len(labels),
        **{key: float(evaluation_summary[key]) for key in _SPEEDS},
    }


def require_one_evaluation(predictions: pd.DataFrame, metrics: Mapping[str, float], per_class: pd.DataFrame) -> None:
    """Raise an error if the metrics or the class table were computed from other predictions.

    Raises:
        EvaluationTableError: if a result does not match the predictions. The evaluation was probably interrupted after
            it saved the predictions.
    """
    table = read_prediction_table(predictions)
    images, hits = len(table.labels), int(table.is_top1.sum())
    loss = math.fsum(table.losses) / images
    found = {
        "metrics": (int(metrics["images"]), metrics["top1"], metrics["loss"]) == (images, hits / images, loss),
        "per_class_metrics": (per_class["images"].sum(), per_class["correct"].sum()) == (images, hits),
    }
    other = [name for name, is_same in found.items() if not is_same]
    if other:
        raise EvaluationTableError(
            [f"{' and '.join(other)}: computed from other predictions → run the evaluation pipeline from the start"]
        )


def per_class_table(predictions: pd.DataFrame, label_map: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per class of the label map, sorted by id.

    Columns:

    - `id`, `synset`, `name`, `images`, `correct`
    - `top1`, `top5`: fractions in 0..1, or NaN for a class without images.
    - `predicted`: number of images that were predicted as this class.
    - `precision`: fraction of these images that belong to the class, or NaN if there are no such images.
    - `loss`: mean loss, or NaN for a class without images.
    - `confused_with_id`, `confused_with` (name), `confused_images`: the most frequent wrong prediction. Ties go to the
      lower id. The values are -1, "" and 0 if no image was misclassified.

    Raises:
        EvaluationTableError: if the table or the label map is malformed.
    """
    classes = read_class_names(label_map)
    table = read_prediction_table(predictions, class_num=len(classes))
    count = len(classes)
    images = np.bincount(table.labels, minlength=count)
    correct = np.bincount(table.labels, weights=table.is_top1, minlength=count).astype(np.int64)
    predicted = np.bincount(table.predicted, minlength=count)
    divisor = np.where(images > 0, images, np.nan)
    most_frequent = _wrong_pairs(table, count).drop_duplicates("true_id").set_index("true_id")
    confused_with = most_frequent["predicted_id"].reindex(range(count), fill_value=-1).to_numpy()
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "synset": classes.synsets,
            "name": classes.names,
            "images": images,
            "correct": correct,
            "top1": correct / divisor,
            "top5": np.bincount(table.labels, weights=table.is_top5, minlength=count) / divisor,
            "predicted": predicted,
            "precision": correct / np.where(predicted > 0, predicted, np.nan),
            "loss": np.bincount(table.labels, weights=table.losses, minlength=count) / divisor,
            "confused_with_id": confused_with,
            "confused_with": [classes.labels[other] if other >= 0 else "" for other in confused_with],
            "confused_images": most_frequent["images"].reindex(range(count), fill_value=0).to_numpy(),
        }
    )


def confusion_matrix(predictions: pd.DataFrame, class_num: int) -> NDArray[np.int64]:
    """Return the confusion matrix, int64 [class_num, class_num]. Rows are true classes, columns are predicted classes.

    Raises:
        EvaluationTableError: if the table is malformed.
    """
    table = read_prediction_table(predictions, class_num=class_num)
    pairs = np.bincount(table.labels * class_num + table.predicted, minlength=class_num * class_num)
    return pairs.reshape(class_num, class_num).astype(np.int64)


def confused_pairs(predictions: pd.DataFrame, label_map: Mapping[str, Any], limit: int) -> pd.DataFrame:
    """Return the `limit` most frequently confused pairs of classes, most frequent first.

    Columns: `true_id`, `true_name`, `predicted_id`, `predicted_name`, `images`, `share` (fraction of the true class's
    images, 0..1). Pairs are directed: cats predicted as dogs and dogs predicted as cats are two separate rows. Pairs
    with equal counts are sorted by share in descending order, then by ids.

    Raises:
        EvaluationTableError: if the table or the label map is malformed.
    """
    classes = read_class_names(label_map)
    table = read_prediction_table(predictions, class_num=len(classes))
    images_of_class = np.bincount(table.labels, minlength=len(classes))
    pairs = _wrong_pairs(table, len(classes))
    pairs["share"] = pairs["images"].to_numpy() / images_of_class[pairs["true_id"].to_numpy()]
    pairs = pairs.sort_values(
        ["images", "share", "true_id", "predicted_id"], ascending=[False, False, True, True], ignore_index=True
    ).head(limit)
    pairs["true_name"] = [classes.labels[class_id] for class_id in pairs["true_id"]]
    pairs["predicted_name"] = [classes.labels[class_id] for class_id in pairs["predicted_id"]]
    return pairs[["true_id", "true_name", "predicted_id", "predicted_name", "images", "share"]]


def confident_mistakes(predictions: pd.DataFrame, label_map: Mapping[str, Any], limit: int) -> pd.DataFrame:
    """Return the `limit` wrong predictions with the highest probability, highest first. Ties are sorted by path.

    Columns: `path`, `true_id`, `true_name`, `predicted_id`, `predicted_name`, `probability` (of the predicted class),
    `true_probability` (of the true class, or NaN if the true class is not among the top 5).

    Raises:
        EvaluationTableError: if the table or the label map is malformed.
    """
    classes = read_class_names(label_map)
    table = read_prediction_table(predictions, class_num=len(classes))
    is_true = table.top_ids == table.labels[:, None]
    true_probability = np.where(is_true.any(axis=1), (table.top_probabilities * is_true).sum(axis=1), np.nan)
    mistakes = pd.DataFrame(
        {
            "path": table.paths,
            "true_id": table.labels,
            "predicted_id": table.predicted,
            "probability": table.top_probabilities[:, 0],
            "true_probability": true_probability,
        }
    )[~table.is_top1]
    mistakes = mistakes.sort_values(["probability", "path"], ascending=[False, True], ignore_index=True).head(limit)
    mistakes.insert(2, "true_name", [classes.labels[class_id] for class_id in mistakes["true_id"]])
    mistakes.insert(4, "predicted_name", [classes.labels[class_id] for class_id in mistakes["predicted_id"]])
    return mistakes


def _macro_averages(table: PredictionTable) -> dict[str, float]:
    count = int(max(table.labels.max(), table.predicted.max())) + 1
    images, predicted = (np.bincount(ids, minlength=count) for ids in (table.labels, table.predicted))
    hits = np.bincount(table.labels, weights=table.is_top1, minlength=count)
    occurs = (images > 0) | (predicted > 0)
    return {
        "macro_precision": float((hits / np.maximum(predicted, 1))[occurs].mean()),
        "macro_f1": float((2 * hits / np.maximum(images + predicted, 1))[occurs].mean()),
    }


def _wrong_pairs(table: PredictionTable, class_num: int) -> pd.DataFrame:
    """Return the wrong predictions as (true_id, predicted_id, images), sorted by true id and descending count."""
    wrong = ~table.is_top1
    codes, images = np.unique(table.labels[wrong] * class_num + table.predicted[wrong], return_counts=True)
    pairs = pd.DataFrame({"true_id": codes // class_num, "predicted_id": codes % class_num, "images": images})
    return pairs.sort_values(["true_id", "images", "predicted_id"], ascending=[True, False, True], ignore_index=True)


def _check_summary(table: PredictionTable, evaluation_summary: Mapping[str, Any]) -> None:
    problems = []
    for key in ("images", *_SPEEDS):
        value = evaluation_summary.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            problems.append(
                f"evaluation_summary: {key} must be a finite number, but is {value!r}; "
                "run the evaluation pipeline again"
            )
    images = evaluation_summary.get("images")
    if not problems and images != len(table.labels):
        problems.append(
            f"evaluation_summary: images is {images}, but predictions has {len(table.labels)} rows, so the two belong "
            "to different evaluations; run the evaluation pipeline again"
        )
    if problems:
        raise EvaluationTableError(problems)
