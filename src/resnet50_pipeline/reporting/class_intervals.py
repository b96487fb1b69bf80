"""Adds 95% confidence intervals to the per-class metrics, and finds the classes that are significantly below average.

The intervals are Wilson's (1927). Unlike bootstrap intervals, Wilson's intervals have a nonzero width even if
every image is classified correctly, which is common in classes with few images.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

_Z = 1.959963984540054  # 97.5th percentile of the standard normal distribution
FALSE_DISCOVERY_RATE = 0.05

Values = NDArray[np.float64]


def add_intervals(per_class: pd.DataFrame) -> pd.DataFrame:
    """Return a `per_class_table` with intervals and F1 added.

    Columns: `top1_low`, `top1_high`, `precision_low`, `precision_high`, `f1`, `f1_low`, `f1_high` (NaN where the metric
    is not defined), and `is_below_average` (see `find_classes_below_average`).
    """
    correct, images, predicted = (per_class[name].to_numpy(np.float64) for name in ("correct", "images", "predicted"))
    either = images + predicted - correct
    top1_low, top1_high = wilson_interval(correct, images)
    precision_low, precision_high = wilson_interval(correct, predicted)
    # F1 is 2J / (1 + J), where J is the share of correct images among all images that belong to the class or are
    # predicted as the class.
    shares = correct / np.where(either > 0, either, np.nan)
    f1, f1_low, f1_high = (2 * share / (1 + share) for share in (shares, *wilson_interval(correct, either)))
    return per_class.assign(
        top1_low=top1_low,
        top1_high=top1_high,
        precision_low=precision_low,
        precision_high=precision_high,
        f1=f1,
        f1_low=f1_low,
        f1_high=f1_high,
        is_below_average=find_classes_below_average(correct, images),
    )


def wilson_interval(hits: Values, images: Values) -> tuple[Values, Values]:
    """Return the ends of the interval for each fraction `hits / images`, or NaN where `images` is 0."""
    count = np.where(images > 0, images, np.nan)
    share = hits / count
    center = share + _Z**2 / (2 * count)
    margin = _Z * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    divisor = 1 + _Z**2 / count
    return np.clip((center - margin) / divisor, 0, 1), np.clip((center + margin) / divisor, 0, 1)


def find_classes_below_average(correct: Values, images: Values) -> NDArray[np.bool_]:
    """Return which classes have a significantly lower accuracy than the set of all images.

    The function uses one-sided binomial tests with the Benjamini-Hochberg procedure (1995). On average, at most 5% of
    the classes in the result are there by chance, regardless of the number of classes.
    """
    tested = np.flatnonzero(images > 0)
    overall = correct[tested].sum() / images[tested].sum()
    p_values = binom.cdf(correct[tested], images[tested], overall)
    order = np.argsort(p_values, kind="stable")
    bounds = FALSE_DISCOVERY_RATE * np.arange(1, len(tested) + 1) / len(tested)
    passing = np.flatnonzero(p_values[order] <= bounds)
    found = np.zeros(len(images), dtype=np.bool_)
    if passing.size:
        found[tested[order[: passing[-1] + 1]]] = True
    return found
