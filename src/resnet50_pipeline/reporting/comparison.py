"""Compares two models on the same images, with a significance test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.intervals import interval_of_difference
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table
from resnet50_pipeline.text import pluralize

_CLASSES_SHOWN = 10


def compare_predictions(predictions: pd.DataFrame, rival: pd.DataFrame, resamples: int) -> dict[str, Any]:
    """Compare a model's predictions with a rival's, image by image.

    Return JSON-serializable values:

    - `images`: number of images.
    - `top1` and `top5`, each with these keys:
        - `difference`: accuracy of this model minus that of the rival, as a fraction.
        - `low` and `high`: ends of the 95% confidence interval, from resampled pairs of predictions.
        - `only_this`, `only_rival`, `both` and `neither`: number of images that only this model, only the rival, both
          models or neither model classified correctly.
        - `p_value`: result of McNemar's exact test (1947). If both models were equally good, a difference at least this
          large would occur with this probability.
    - `classes`: the ten classes whose top-1 accuracy differs most, each with `id`, `images` and `difference`.

    Raises:
        EvaluationTableError: if a table is malformed, or the tables contain different images or labels.
    """
    first, second = read_prediction_table(predictions), read_prediction_table(rival)
    order = _match(first, second)
    result: dict[str, Any] = {"images": len(first.labels)}
    for name, hits, rival_hits in (
        ("top1", first.is_top1, second.is_top1[order]),
        ("top5", first.is_top5, second.is_top5[order]),
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
    result["classes"] = _changed_classes(first, second.is_top1[order])
    return result


def describe_comparison(comparison: dict[str, Any]) -> str:
    """Describe the top-1 result: `1.20 percentage points better than … (95% confidence interval …)`."""
    top1 = comparison["top1"]
    points = 100 * top1["difference"]
    word = (
        "as good as"
        if points == 0
        else f"{abs(points):.2f} percentage points {'better' if points > 0 else 'worse'} than"
    )
    return (
        f"{word} {comparison['rival']} on the same {comparison['images']:,} images "
        "(95% confidence interval "
        f"{100 * top1['low']:+.2f} to {100 * top1['high']:+.2f}, McNemar p = {top1['p_value']:.2g})"
    )


def _match(first: PredictionTable, second: PredictionTable) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the row indices that put `second` in the order of the paths in `first`."""
    order = pd.Index(second.paths).get_indexer(pd.Index(first.paths))
    if len(first.paths) != len(second.paths) or (order < 0).any():
        raise EvaluationTableError(
            [
                f"the two evaluations used different images ({len(first.paths)} and {len(second.paths)}, "
                f"{int((order >= 0).sum())} in common); evaluate both models on the same list"
            ]
        )
    differing = np.flatnonzero(first.labels != second.labels[order])
    if differing.size:
        row = int(differing[0])
        raise EvaluationTableError(
            [
                f"{first.paths[row]}: the label is {first.labels[row]} in this evaluation, but "
                f"{second.labels[order][row]} in the rival's evaluation ({pluralize(differing.size, 'image')} with "
                "a different label); evaluate both models on the same list"
            ]
        )
    return order.astype(np.int64)


def _changed_classes(first: PredictionTable, rival_hits: np.ndarray[Any, np.dtype[np.bool_]]) -> list[dict[str, Any]]:
    ids, rows = np.unique(first.labels, return_inverse=True)
    images = np.bincount(rows)
    change = (np.bincount(rows, weights=first.is_top1) - np.bincount(rows, weights=rival_hits)) / images
    worst = np.lexsort((ids, -np.abs(change)))[:_CLASSES_SHOWN]
    return [
        {"id": int(ids[row]), "images": int(images[row]), "difference": float(change[row])}
        for row in worst
        if change[row]
    ]
