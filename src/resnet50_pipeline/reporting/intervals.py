"""Computes 95% confidence intervals with the bootstrap (Efron 1979).

Each interval is a pair of percentiles over many resamples, sampled with replacement. The number of correct predictions
among n resampled images has a binomial distribution, so this module samples this number directly. The result is
equivalent to resampling individual images, but the computation is much faster. The seed is fixed, so the same table
always produces the same intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 0.025, 0.975
_SEED = 0


@dataclass(frozen=True)
class Interval:
    """The ends of a 95% confidence interval."""

    low: float
    high: float


def interval_of_share(hits: int, images: int, resamples: int) -> Interval:
    """Return the confidence interval of the fraction `hits / images`. Images are resampled."""
    draw = np.random.default_rng(_SEED)
    return interval_of(draw.binomial(images, hits / images, resamples) / images)


def interval_of_class_mean(hits: NDArray[np.int64], images: NDArray[np.int64], resamples: int) -> Interval:
    """Return the confidence interval of the mean accuracy over classes. Images are resampled within each class.

    Args:
        hits: [C] number of correctly classified images per class.
        images: [C] number of images per class, at least 1.
        resamples: number of resamples.
    """
    draw = np.random.default_rng(_SEED)
    means = np.zeros(resamples)
    # One class at a time, because 10,000 resamples of 1000 classes at once would need 80 MB.
    for count, total in zip(hits.tolist(), images.tolist(), strict=True):
        means += draw.binomial(total, count / total, resamples) / total
    return interval_of(means / len(hits))


def interval_of_difference(only_first: int, only_second: int, images: int, resamples: int) -> Interval:
    """Return the confidence interval of `(only_first - only_second) / images`. Pairs of predictions are resampled."""
    draw = np.random.default_rng(_SEED)
    shares = np.array([only_first, only_second, images - only_first - only_second]) / images
    counts = draw.multinomial(images, shares, resamples)
    return interval_of((counts[:, 0] - counts[:, 1]) / images)


def interval_of(values: NDArray[np.float64]) -> Interval:
    """Return the 2.5th and 97.5th percentiles of resampled values."""
    low, high = np.quantile(values, [LOW, HIGH])
    return Interval(float(low), float(high))
