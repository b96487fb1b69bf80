"""Finds images whose labels are probably wrong, by confident learning on predictions.

The method comes from Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels":
estimate how many images with each label belong to each other class, then select that many images, those with the
largest difference in probability ("prune by noise rate"). The details follow `cleanlab.filter.find_label_issues`,
version 2.9.0, with its default arguments, and the results are the same for up to five classes. cleanlab needs the
probabilities of all classes, which take up 5 GB for ImageNet's train list. The predictions contain only the five
largest probabilities and the loss, which determines the probability of the label. All others are treated as 0.

The predictions must come from a model that was not trained on the images.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.imagenet.lists.files import ListEntries
from resnet50_pipeline.processes.command_line import other_command
from resnet50_pipeline.reporting.classes import ClassNames, find_moved_classes
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table
from resnet50_pipeline.text import pluralize

logger = logging.getLogger(__name__)

LABEL_ISSUE_COLUMNS = (
    *("path", "action", "label", "reason", "given_label", "given_class", "suggested_class", "label_probability"),
    *("suggested_probability", "split"),
)
CLASSES_ATTRIBUTE = "classes"
"""Attribute of the table written by `kedro folds`: the key of each class, in label order."""
_TEXT_COLUMNS = ("path", "action", "reason", "given_class", "suggested_class", "split")
# As in cleanlab, values that differ by at most this much count as equal.
_TOLERANCE = 1e-6


def label_probabilities(table: PredictionTable) -> NDArray[np.float64]:
    """Return the predicted probability of each image's label, [N] in 0..1. The loss is its negative logarithm."""
    probabilities: NDArray[np.float64] = np.exp(-table.losses)
    return probabilities


def score_labels(table: PredictionTable) -> NDArray[np.float64]:
    """Return the normalized margin of each image: the probability of its label minus the largest other probability.

    Returns:
        [N] in -1..1. Images with the lowest values are most likely to be label issues.
    """
    if table.top_ids.shape[1] == 1:
        return label_probabilities(table)
    other = np.where(table.is_top1, table.top_probabilities[:, 1], table.top_probabilities[:, 0])
    scores: NDArray[np.float64] = label_probabilities(table) - other
    return scores


def find_label_issues(table: PredictionTable) -> NDArray[np.int64]:
    """Return the rows of images whose labels are probably wrong, most suspicious first (see `score_labels`)."""
    labels, own = table.labels, label_probabilities(table)
    is_issue = np.zeros(len(labels), dtype=np.bool_)
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels))
    for label, other, images in _count_confusions(table, own).itertuples(index=False):
        rows = order[ends[label - 1] if label else 0 : ends[label]]
        probability = (table.top_probabilities[rows] * (table.top_ids[rows] == other)).sum(axis=1)
        is_issue[rows[np.argsort(own[rows] - probability, kind="stable")[:images]]] = True
    # Exclude images whose label is the most probable class, and images that are the only ones with their label.
    is_issue &= (own < table.top_probabilities[:, 0] - _TOLERANCE) & (np.bincount(labels)[labels] > 1)
    rows = np.flatnonzero(is_issue)
    return rows[np.argsort(score_labels(table)[rows], kind="stable")]


def _count_confusions(table: PredictionTable, own: NDArray[np.float64]) -> pd.DataFrame:
    """Estimate how many `images` with each `label` actually belong to the class `other` (the confident joint).

    The threshold of a class is the mean probability of that class over the images labeled with it. An image counts for
    a class if its probability reaches the threshold, or for the most probable class if it reaches several thresholds.
    """
    labels, top = table.labels, table.top_ids
    size = int(max(labels.max(), top.max())) + 1
    images = np.bincount(labels, minlength=size)
    sums = np.bincount(labels, weights=own, minlength=size)
    thresholds = np.divide(sums, images, out=np.full(size, np.inf), where=images > 0)
    is_confident = table.top_probabilities >= thresholds[top] - _TOLERANCE
    is_own = ~table.is_top5 & (own >= thresholds[labels] - _TOLERANCE)
    confident = is_confident.sum(axis=1) + is_own
    first = np.where(is_confident.any(axis=1), top[np.arange(len(top)), is_confident.argmax(axis=1)], labels)
    belongs = np.where(confident > 1, top[:, 0], first)
    counts = Counter(zip(labels[confident > 0].tolist(), belongs[confident > 0].tolist(), strict=True))
    present = np.flatnonzero(images)
    # Assume that at least one image of each class is labeled correctly.
    counts |= Counter((label, label) for label in present.tolist())
    frame = pd.DataFrame([(*pair, n) for pair, n in counts.items()], columns=["label", "other", "n"])
    # Scale the counts of each label to its number of images, because images that reach no threshold were not counted.
    frame["scaled"] = frame["n"] / frame.groupby("label")["n"].transform("sum") * images[frame["label"]]
    frame = frame.sort_values(["label", "other"], ignore_index=True)
    frame["images"] = np.concatenate(
        [_round_keeping_sum(group["scaled"].to_numpy()) for _, group in frame.groupby("label")]
    )
    return frame.loc[frame["label"] != frame["other"], ["label", "other", "images"]]


def _round_keeping_sum(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round the values without changing their sum, by rounding those with the largest errors the other way."""
    rounded = values.round()
    missing = int(values.sum().round() - rounded.sum())
    order = np.argsort(values - rounded, kind="stable")
    changed = order[::-1][:missing] if missing > 0 else order[:-missing]
    rounded[changed] += np.sign(missing)
    return rounded.astype(np.int64)


def read_out_of_fold_predictions(path: Path, names: ClassNames) -> PredictionTable:
    """Read the predictions that `kedro folds` wrote.

    Raises:
        EvaluationTableError: if `kedro folds` did not write the file, or if a class has a different label now.
    """
    try:
        predictions = pd.read_parquet(path)
        moved = find_moved_classes(names.keys, predictions.attrs.get(CLASSES_ATTRIBUTE, names.keys))
        if moved:
            (name, (label, other)), *_ = moved.items()
            raise EvaluationTableError(
                [
                    f"evaluation.out_of_fold_predictions: {path} has a different label for "
                    f"{pluralize(len(moved), 'class', 'classes')}: the label of {name} is {other} there, but {label} "
                    f"now → run `{other_command('folds')}` again, or set the parameter to null"
                ]
            )
        return read_prediction_table(predictions, len(names))
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise EvaluationTableError(
            [
                f"evaluation.out_of_fold_predictions: {path} is not a Parquet table ({error}) → run "
                f"`{other_command('folds')}` and set the parameter to the table that it writes"
            ]
        ) from error


def select_train_images(table: PredictionTable, train: ListEntries) -> PredictionTable:
    """Return the out-of-fold predictions for the images in the current train list, with their current labels.

    The folds cover both the train and the val images, and patches may have changed the lists since then. Images that
    are not in the train list are omitted, as are images with a new label outside the top 5, whose probability is
    unknown. The numbers of omitted images are logged.

    Args:
        table: predictions from `kedro folds`.
        train: the train list, with paths as in the predictions.

    Raises:
        EvaluationTableError: if no images remain.
    """
    current = pd.Series(train.labels, index=list(train.paths))
    labels = current[~current.index.duplicated()].reindex(table.paths, fill_value=-1).to_numpy(np.int64)
    is_listed, is_new = labels >= 0, labels != table.labels
    is_label = table.top_ids == labels[:, None]
    is_known = is_listed & (~is_new | is_label.any(axis=1))
    if not is_known.any():
        raise EvaluationTableError(
            [
                f"evaluation.out_of_fold_predictions: none of the {pluralize(len(labels), 'image')}, such as "
                f"{table.paths[0]}, is in {train.source} → set the parameter to a table for this dataset, or to null"
            ]
        )
    if not is_known.all():
        logger.info(
            "label issues in the train list: ignored %s in the out-of-fold predictions: %d not in the train list (such "
            "as val images) and %d with a new label outside the top 5",
            pluralize(int((~is_known).sum()), "image"),
            (~is_listed).sum(),
            (is_listed & ~is_known).sum(),
        )
    # A probability of 0 would have an infinite loss.
    probabilities = np.maximum((table.top_probabilities * is_label).sum(axis=1), np.finfo(np.float64).tiny)
    losses = np.where(is_new, -np.log(probabilities), table.losses)
    return replace(
        table,
        paths=table.paths[is_known],
        labels=labels[is_known],
        top_ids=table.top_ids[is_known],
        top_probabilities=table.top_probabilities[is_known],
        losses=losses[is_known],
    )


def read_label_issues(path: Path) -> pd.DataFrame:
    """Read a CSV file with a table from `tabulate_label_issues`. Class names such as `NA` or `001` remain strings."""
    return pd.read_csv(path, dtype=dict.fromkeys(_TEXT_COLUMNS, str), keep_default_na=False)


def tabulate_label_issues(tables: Mapping[str, PredictionTable], names: ClassNames) -> pd.DataFrame:
    """Return the label issues of several lists, ranked together.

    Args:
        tables: predictions, keyed by the split whose list contains the images, or by "" for other images.
        names: names of the classes.

    Returns:
        One row per image, with the columns `LABEL_ISSUE_COLUMNS`. The first four columns and `split` form a fix list
        that can be edited: the action is always `relabel`, and `label` is the suggested class id.
    """
    frames = []
    for split, table in tables.items():
        rows, own = find_label_issues(table), label_probabilities(table)
        frame = pd.DataFrame(
            {
                "path": table.paths[rows],
                "action": "relabel",
                "label": table.predicted[rows],
                "given_label": table.labels[rows],
                "given_class": [names.labels[label] for label in table.labels[rows]],
                "suggested_class": [names.labels[label] for label in table.predicted[rows]],
                "label_probability": own[rows],
                "suggested_probability": table.top_probabilities[rows, 0],
                "split": split,
                "score": score_labels(table)[rows],
            }
        )
        frame["reason"] = [
            f"confident learning: {one.given_class} {one.label_probability:.1%}, {one.suggested_class} "
            f"{one.suggested_probability:.1%}"
            for one in frame.itertuples()
        ]
        frames.append(frame)
    ranked = pd.concat(frames, ignore_index=True).sort_values("score", kind="stable", ignore_index=True)
    return ranked[list(LABEL_ISSUE_COLUMNS)]
