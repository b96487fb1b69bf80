"""95 % intervals by bootstrap (Efron 1979): how far a figure would move with other images of the same kind.

Percentiles of resamples with replacement. The hits among n resampled images are a binomial number, so they are drawn as
such: the same distribution as from resampling image by image, in a moment. Equal tables give equal intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 0.025, 0.975
_SEED = 0


@dataclass(frozen=True)
class Interval:
    """Both ends of a 95 % interval."""

    low: float
    high: float


def interval_of_share(hits: int, images: int, resamples: int) -> Interval:
    """Return the interval of `hits / images`, resampling the images."""
    draw = np.random.default_rng(_SEED)
    return interval_of(draw.binomial(images, hits / images, resamples) / images)


def interval_of_class_mean(hits: NDArray[np.int64], images: NDArray[np.int64], resamples: int) -> Interval:
    """Return the interval of the mean of the classes' shares [C], resampling within each class."""
    draw = np.random.default_rng(_SEED)
    means = np.zeros(resamples)
    # Class by class: 10,000 resamples of 1000 classes at once would be 80 MB.
    for count, total in zip(hits.tolist(), images.tolist(), strict=True):
        means += draw.binomial(total, count / total, resamples) / total
    return interval_of(means / len(hits))


def interval_of_difference(only_first: int, only_second: int, images: int, resamples: int) -> Interval:
    """Return the interval of `(only_first - only_second) / images`, resampling pairs of answers to one image."""
    draw = np.random.default_rng(_SEED)
    shares = np.array([only_first, only_second, images - only_first - only_second]) / images
    counts = draw.multinomial(images, shares, resamples)
    return interval_of((counts[:, 0] - counts[:, 1]) / images)


def interval_of(values: NDArray[np.float64]) -> Interval:
    """Return the percentiles of resampled values."""
    low, high = np.quantile(values, [LOW, HIGH])
    return Interval(float(low), float(high))
