"""Two models on the same images: who is right where the other is not, and whether that can be chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.intervals import interval_of_difference
from resnet50_pipeline.reporting.prediction_table import PredictionTable, read_prediction_table

_CLASSES_SHOWN = 10


def compare_predictions(predictions: pd.DataFrame, rival: pd.DataFrame, resamples: int) -> dict[str, Any]:
    """Return how a model does beside another one, image by image, ready for JSON.

    `images`; for `top1` and `top5` each: `difference` (this minus the other, a fraction) with `low` and `high` (95 %
    interval, resampling pairs), `only_this`, `only_rival`, `both` and `neither` (images that are right), and `p_value`:
    McNemar's exact test (1947), the chance of a split at least as uneven if neither were better. `classes`: the ten
    whose top-1 changed most, as `id`, `images`, `difference`.

    Raises:
        EvaluationTableError: a table is malformed, or they are not of the same images with the same labels.
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
    """Return the result in one sentence: `1.2 points better than … (95 % interval 0.3 to 2.1, McNemar p = 0.01)`."""
    top1 = comparison["top1"]
    points = 100 * top1["difference"]
    word = "as good as" if points == 0 else f"{abs(points):.2f} points {'better' if points > 0 else 'worse'} than"
    return (
        f"{word} {comparison['rival']} on the same {comparison['images']:,} images (95 % interval "
        f"{100 * top1['low']:+.2f} to {100 * top1['high']:+.2f}, McNemar p = {top1['p_value']:.2g})"
    )


def _match(first: PredictionTable, second: PredictionTable) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the rows of `second` in the order of `first`."""
    order = pd.Index(second.paths).get_indexer(pd.Index(first.paths))
    if len(first.paths) != len(second.paths) or (order < 0).any():
        raise EvaluationTableError(
            [
                f"the two evaluations are of different images ({len(first.paths)} and {len(second.paths)}, "
                f"{int((order >= 0).sum())} in both); evaluate both models on one list"
            ]
        )
    differing = np.flatnonzero(first.labels != second.labels[order])
    if differing.size:
        row = int(differing[0])
        raise EvaluationTableError(
            [
                f"{first.paths[row]}: label {first.labels[row]} here, {second.labels[order][row]} in the other "
                f"evaluation ({differing.size} such images); evaluate both models on one list"
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
