"""Compares two models on the same images, with a significance test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.classes import ClassNames, find_moved_classes
from resnet50_pipeline.reporting.intervals import interval_of_difference
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table
from resnet50_pipeline.text import pluralize

_CLASSES_SHOWN = 10
_SIGNIFICANT_BELOW = 0.05
_PATCH_ROWS_SHOWN = 200


def compare_predictions(predictions: pd.DataFrame, rival: pd.DataFrame, resamples: int) -> dict[str, Any]:
    """Compare a model's predictions with a rival's predictions, image by image.

    Only images in both tables count. Images whose content differs according to the `sha256` column are treated as
    different images. Both models are evaluated with the labels in `predictions`, so corrected labels apply to both.

    Return JSON-serializable values:

    - `images`: number of images in both tables.
    - `own_images` and `rival_images`: number of images in each table.
    - `relabeled`: number of common images with a different label in the rival's table.
    - `is_same_content`: whether the digests of all common images are known and equal.
    - `top1` and `top5`, each with these keys:
        - `difference`: accuracy of this model minus the accuracy of the rival, as a fraction.
        - `low` and `high`: ends of the 95% confidence interval, from resampled pairs of predictions.
        - `only_this`, `only_rival`, `both` and `neither`: number of images that only this model, only the rival, both
          models or neither model classified correctly.
        - `p_value`: result of McNemar's exact test (1947). If both models were equally good, a difference at least this
          large would occur with this probability.
    - `classes`: the ten classes whose top-1 accuracy differs most, each with `id`, `images` and `difference`.
    - `changed`: the images that only one model classified correctly, each with `path` and the class that the rival
      `predicted`.

    Raises:
        EvaluationTableError: if a table is malformed, or if the tables do not share most of their images and labels.
    """
    first, second = read_prediction_table(predictions), read_prediction_table(rival)
    digests, rival_digests = _digests_of(predictions), _digests_of(rival)
    rows, order = _match(first, second, digests, rival_digests)
    result: dict[str, Any] = {
        "images": len(rows),
        "own_images": len(first.labels),
        "rival_images": len(second.labels),
        "relabeled": int((first.labels[rows] != second.labels[order]).sum()),
        "is_same_content": bool((digests[rows] != "").all() and (digests[rows] == rival_digests[order]).all()),
    }
    first = _select(first, rows)
    second = replace(_select(second, order), labels=first.labels)
    for name, hits, rival_hits in (
        ("top1", first.is_top1, second.is_top1),
        ("top5", first.is_top5, second.is_top5),
    ):
        only_this, only_rival = int((hits & ~rival_hits).sum()), int((rival_hits & ~hits).sum())
        interval = interval_of_difference(only_this, only_rival, len(hits), resamples)
        differing = only_this + only_rival
        result[name] = {
            "difference": (only_this - only_rival) / len(hits),
            "low": interval.low,
            "high": interval.high,
            "only_this": only_this,
            "only_rival": only_rival,
            "both": int((hits & rival_hits).sum()),
            "neither": int((~hits & ~rival_hits).sum()),
            "p_value": float(binomtest(only_this, differing).pvalue) if differing else 1.0,
        }
    result["classes"] = _changed_classes(first, second.is_top1)
    result["changed"] = [
        {"path": str(first.paths[row]), "predicted": int(second.predicted[row])}
        for row in np.flatnonzero(first.is_top1 != second.is_top1)
    ]
    return result


def require_same_classes(classes: ClassNames, rival: ClassNames) -> None:
    """Raise an error if a class has a different label in the rival's evaluation, such as after a new class folder.

    Predictions are labels, so the rival's predictions would be attributed to the wrong classes. Classes that exist in
    only one evaluation and names that several classes share are ignored.

    Raises:
        EvaluationTableError: if a class has different labels.
    """
    if moved := find_moved_classes(classes.keys, rival.keys):
        (name, (label, other)), *_ = moved.items()
        raise EvaluationTableError(
            [
                f"{pluralize(len(moved), 'class has', 'classes have')} a different label in the rival's evaluation: "
                f"the label of {name} is {label} here, but {other} there; set evaluation.compare_with to a model with "
                "the same class order, or to null"
            ]
        )


def describe_comparison(comparison: Mapping[str, Any]) -> str:
    """Describe the top-1 result: `1.20 percentage points better than … (95% confidence interval …)`.

    A difference that is not significant is described as possibly due to chance.
    """
    top1 = comparison["top1"]
    points = 100 * top1["difference"]
    word = (
        "as good as"
        if points == 0
        else f"{abs(points):.2f} percentage points {'better' if points > 0 else 'worse'} than"
    )
    chance = ", but this may be due to chance" if points and top1["p_value"] >= _SIGNIFICANT_BELOW else ""
    return (
        f"{word} {comparison['rival']} on the same {pluralize(comparison['images'], 'image')}{chance} "
        "(95% confidence interval "
        f"{100 * top1['low']:+.2f} to {100 * top1['high']:+.2f}, McNemar p = {top1['p_value']:.2g}"
        f"{_describe_rest(comparison)})"
    )


def _describe_rest(comparison: Mapping[str, Any]) -> str:
    """Describe images that are in only one evaluation, and new labels. Return "" if the lists were the same."""
    images, own, rival = (comparison[name] for name in ("images", "own_images", "rival_images"))
    parts = []
    if own != images or rival != images:
        parts.append(f"this evaluation has {pluralize(own, 'image')}, the other {rival:,}")
    if comparison["relabeled"]:
        parts.append(f"{pluralize(comparison['relabeled'], 'image has', 'images have')} a new label, for both models")
    return "".join(f"; {part}" for part in parts)


def describe_patches(
    patches: Sequence[Mapping[str, Any]], comparison: Mapping[str, Any], names: ClassNames
) -> dict[str, Any] | None:
    """Return the data for the report's section on patches, or None if there are no patches.

    Args:
        patches: `patches` of the validation report, in order.
        comparison: result of `compare_predictions` with the keys `rival` and `rival_patches`, or `rival: None`.
        names: class names.
    """
    if not patches:
        return None
    rows = [(patch, row) for patch in patches for row in patch["rows"]]
    return {
        "list": [
            {**patch, "counts": {action: _count(patch, action) for action in ("drop", "relabel", "move")}}
            for patch in patches
        ],
        "rows": [
            {
                "patch": patch["id"],
                "path": row["path"],
                "action": row["action"],
                "change": _describe_change(row, names),
                "reason": row["reason"],
            }
            for patch, row in rows[:_PATCH_ROWS_SHOWN]
        ],
        "row_count": len(rows),
        "effect": _describe_effect([patch["id"] for patch in patches], comparison),
    }


def _count(patch: Mapping[str, Any], action: str) -> int:
    return sum(row["action"] == action for row in patch["rows"])


def _describe_change(row: Mapping[str, Any], names: ClassNames) -> str:
    if row["action"] == "relabel":
        return f"{_name_label(row['label'], names)} → {_name_label(row['new_label'], names)}"
    if row["action"] == "move":
        return "train → val" if row["split"] == "train" else "val → train"
    return f"{_name_label(row['label'], names)}, {row['split']}"


def _name_label(label: int, names: ClassNames) -> str:
    """Return the name of a label. A class that a patch removed from the end of the list has no name."""
    return names.labels[label] if label < len(names) else f"class {label}"


def _describe_effect(ids: Sequence[str], comparison: Mapping[str, Any]) -> str:
    """Describe the change in accuracy, and which patches the rival was trained with."""
    rival = comparison["rival"]
    if rival is None:
        reason = comparison["reason"] or "there is no earlier model"
        return f"The effect on accuracy is unknown: {reason}."
    before = comparison.get("rival_patches")
    if before is None:
        trained = f"It is unknown which patches {rival} was trained with."
    elif before == ids:
        trained = f"{rival} was trained with the same patches, so they do not explain the difference."
    elif before:
        trained = f"{rival} was trained with {', '.join(before)}."
    else:
        trained = f"{rival} was trained without patches."
    return f"The model is {describe_comparison(comparison)}. {trained}"


def _digests_of(predictions: pd.DataFrame) -> NDArray[np.object_]:
    """Return the digest of each image, or "" if it is unknown."""
    if "sha256" not in predictions.columns:
        return np.full(len(predictions), "", object)
    return predictions["sha256"].fillna("").to_numpy(dtype=object)


def _select(table: PredictionTable, rows: NDArray[np.int64]) -> PredictionTable:
    return PredictionTable(
        table.paths[rows], table.labels[rows], table.top_ids[rows], table.top_probabilities[rows], table.losses[rows]
    )


def _match(
    first: PredictionTable,
    second: PredictionTable,
    digests: NDArray[np.object_],
    rival_digests: NDArray[np.object_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the common images in `first`, and their rows in `second`."""
    order = pd.Index(second.paths).get_indexer(pd.Index(first.paths)).astype(np.int64)
    has_other_content = (digests != "") & (rival_digests[order] != "") & (digests != rival_digests[order])
    rows = np.flatnonzero((order >= 0) & ~has_other_content).astype(np.int64)
    largest = max(len(first.paths), len(second.paths))
    if 2 * len(rows) <= largest:
        raise EvaluationTableError(
            [
                f"the two evaluations used different images ({len(first.paths)} and {len(second.paths)}, "
                f"{len(rows)} in common); evaluate both models on the same list"
            ]
        )
    differing = rows[first.labels[rows] != second.labels[order[rows]]]
    if 2 * (len(rows) - len(differing)) <= largest:
        row = int(differing[0])
        raise EvaluationTableError(
            [
                f"{first.paths[row]}: the label is {first.labels[row]} in this evaluation, but "
                f"{second.labels[order[row]]} in the rival's evaluation ({pluralize(differing.size, 'image')} with "
                "a different label); evaluate both models on the same list"
            ]
        )
    return rows, order[rows]


def _changed_classes(first: PredictionTable, rival_hits: NDArray[np.bool_]) -> list[dict[str, Any]]:
    ids, rows = np.unique(first.labels, return_inverse=True)
    images = np.bincount(rows)
    change = (np.bincount(rows, weights=first.is_top1) - np.bincount(rows, weights=rival_hits)) / images
    worst = np.lexsort((ids, -np.abs(change)))[:_CLASSES_SHOWN]
    return [
        {"id": int(ids[row]), "images": int(images[row]), "difference": float(change[row])}
        for row in worst
        if change[row]
    ]
