"""Blur corruptions: defocus, frosted glass, motion and zoom."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imaging.base import Pixels
from resnet50_pipeline.imaging.corruptions.base import (
    Floats,
    blur_along,
    blur_gaussian,
    length_scale,
    to_floats,
    to_pixels,
)

_SUBPIXELS = 8


def blur_by_defocus(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Blur with a disk, like a lens that is out of focus."""
    radius, sigma = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    scale = length_scale(pixels)
    disk = _make_disk(radius * scale, sigma * scale)
    return to_pixels(cv2.filter2D(to_floats(pixels), -1, disk, borderType=cv2.BORDER_REFLECT_101))


def blur_by_glass(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Swap pixels with close neighbors between two Gaussian blurs, like frosted glass."""
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    scale = length_scale(pixels)
    order = _shuffle_locally(pixels.shape[0], pixels.shape[1], max(1, round(reach * scale)), rounds, rng)
    blurred = blur_gaussian(to_floats(pixels), sigma * scale).reshape(-1, 3)
    return to_pixels(blur_gaussian(blurred[order].reshape(pixels.shape), sigma * scale))


def blur_by_motion(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Blur along a line, like a moving camera."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    scale = length_scale(pixels)
    return to_pixels(blur_along(to_floats(pixels), radius * scale, sigma * scale, rng.uniform(-45, 45)))


def blur_by_zoom(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Average the image with enlarged copies of itself, like a camera moving toward the object."""
    largest, step = ((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.24, 0.02), (1.30, 0.03))[severity - 1]
    factors = np.linspace(1, largest, round((largest - 1) / step) + 1)
    values = to_floats(pixels)
    # The first copy, which is not enlarged, counts twice.
    total = values.copy()
    for factor in factors:
        total += _zoom(values, float(factor))
    return to_pixels(total / (len(factors) + 1))


@lru_cache(maxsize=16)
def _make_disk(radius: float, sigma: float) -> Floats:
    """Return a disk with smooth edges and a sum of 1."""
    reach = math.ceil(radius + 0.5)
    fine = (np.arange((2 * reach + 1) * _SUBPIXELS) + 0.5) / _SUBPIXELS - reach - 0.5
    is_inside = np.hypot(*np.meshgrid(fine, fine)) <= max(radius, 0.5)  # at least the center
    disk = is_inside.reshape(2 * reach + 1, _SUBPIXELS, 2 * reach + 1, _SUBPIXELS).mean(axis=(1, 3), dtype=np.float32)
    blurred = blur_gaussian(np.pad(disk, 2), sigma)
    normalized: Floats = blurred / blurred.sum()
    return normalized


def _shuffle_locally(height: int, width: int, reach: int, rounds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the order of pixels, [height * width], after swapping each pixel with one at most `reach` pixels away.

    Pixels that are 2 * reach + 1 apart cannot choose the same position, so NumPy swaps all of them at once.
    """
    order = np.arange(height * width)
    for _ in range(rounds):
        for top in range(reach, 3 * reach + 1):
            for left in range(reach, 3 * reach + 1):
                rows = np.arange(top, height - reach + 1, 2 * reach + 1)[:, None]
                columns = np.arange(left, width - reach + 1, 2 * reach + 1)[None]
                shift = rng.integers(-reach, reach, size=(2, rows.size, columns.size))
                here = (rows * width + columns).reshape(-1)
                there = ((rows + shift[0]) * width + columns + shift[1]).reshape(-1)
                order[here], order[there] = order[there], order[here]
    return order


def _zoom(values: Floats, factor: float) -> Floats:
    """Enlarge an image around its center, and crop the result to the original size."""
    height, width = values.shape[:2]
    middle = (width - 1) / 2, (height - 1) / 2
    matrix = np.array([[factor, 0, (1 - factor) * middle[0]], [0, factor, (1 - factor) * middle[1]]])
    zoomed: Floats = cv2.warpAffine(values, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return zoomed
