"""Implements the conversions, blurs and textures that several corruptions share."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imaging.base import Pixels

Floats = NDArray[np.float32]
_REFERENCE_SIDE = 224


def to_floats(pixels: Pixels) -> Floats:
    """Return uint8 pixels as float32 in 0..1."""
    return pixels.astype(np.float32) / np.float32(255)


def to_pixels(values: NDArray[np.floating]) -> Pixels:
    """Return values in 0..1 as uint8 pixels. Values outside this range are clipped."""
    pixels: Pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return pixels


def length_scale(pixels: Pixels) -> float:
    """Return the factor by which to scale lengths in pixels: the shorter side / 224."""
    height, width, _ = pixels.shape
    return float(min(height, width) / _REFERENCE_SIDE)


def blur_along(values: Floats, radius: float, sigma: float, degrees: float) -> Floats:
    """Blur along a line in one direction, with half of a Gaussian, like ImageMagick's motion blur.

    Args:
        values: float32 [H, W] or [H, W, C].
        radius: half the length of the line in pixels.
        sigma: standard deviation of the Gaussian in pixels.
        degrees: direction of the line.
    """
    reach = 2 * math.ceil(radius)
    distances = np.arange(reach + 1)
    weights = np.exp(-(distances**2) / (2 * sigma**2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.float32)
    angle = math.radians(degrees)
    rows, columns = (reach + np.rint(distances * part).astype(int) for part in (math.sin(angle), math.cos(angle)))
    np.add.at(kernel, (rows, columns), weights / weights.sum())
    blurred: Floats = cv2.filter2D(values, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return blurred


def blur_gaussian(values: Floats, sigma: float) -> Floats:
    """Blur with a Gaussian that is truncated at four standard deviations."""
    reach = max(1, round(4 * sigma))
    blurred: Floats = cv2.GaussianBlur(values, (2 * reach + 1, 2 * reach + 1), sigma, borderType=cv2.BORDER_REPLICATE)
    return blurred


def make_plasma(height: int, width: int, decay: float, rng: np.random.Generator) -> Floats:
    """Generate a plasma fractal with the diamond-square algorithm, float32 [height, width] in 0..1.

    Args:
        height: height in pixels.
        width: width in pixels.
        decay: square root of the factor by which the amplitude decreases each time the scale is halved. High values
            produce smooth clouds.
        rng: random number generator.
    """
    side = 1 << (max(height, width, 2) - 1).bit_length()
    heights = np.zeros((side, side))
    step, amplitude = side, 1.0
    while step >= 2:
        half = step // 2
        corners, shape = heights[::step, ::step], (side // step, side // step)
        right, below = np.roll(corners, -1, axis=1), np.roll(corners, -1, axis=0)
        noise = rng.uniform(-amplitude, amplitude, (3, *shape))
        centers = (corners + right + below + np.roll(right, -1, axis=0)) / 4 + noise[0]
        upper = (corners + right + centers + np.roll(centers, 1, axis=0)) / 4 + noise[1]
        left = (corners + below + centers + np.roll(centers, 1, axis=1)) / 4 + noise[2]
        heights[half::step, half::step] = centers
        heights[::step, half::step], heights[half::step, ::step] = upper, left
        step, amplitude = half, amplitude / decay**2
    plasma: Floats = ((heights - heights.min()) / np.ptp(heights)).astype(np.float32)
    return plasma[:height, :width]
