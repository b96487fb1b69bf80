"""Digital corruptions: contrast, elastic transform, pixelation and JPEG compression."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from resnet50_pipeline.imaging.base import Pixels
from resnet50_pipeline.imaging.corruptions.base import Floats, to_floats, to_pixels
from resnet50_pipeline.imaging.decode import decode_image

# The paper's code uses 244 instead of 224 pixels for the elastic transform.
_ELASTIC_SIDE = 244 / 224


def reduce_contrast(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Move all values toward the mean of their channel."""
    share = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    values = to_floats(pixels)
    means = values.mean(axis=(0, 1), keepdims=True)
    return to_pixels((values - means) * share + means)


def transform_elastically(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Apply a random affine map, and displace the pixels by a smooth random field.

    Severities 1 and 2 mainly move the image, whereas severities 3 to 5 distort small parts of it.
    """
    strength, sigma, jitter = (
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    )[severity - 1]
    height, width = pixels.shape[:2]
    side = min(height, width) * _ELASTIC_SIDE
    center, third = np.array([height // 2, width // 2]), min(height, width) // 3
    corners = (center + third * np.array([[1, 1], [1, -1], [-1, -1]])).astype(np.float32)
    moved = corners + rng.uniform(-jitter * side, jitter * side, size=corners.shape).astype(np.float32)
    matrix = cv2.getAffineTransform(corners, moved)
    values = cv2.warpAffine(to_floats(pixels), matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    down, across = (
        _blur_matrix(height, sigma * side) @ field @ _blur_matrix(width, sigma * side).T * np.float32(strength * side)
        for field in rng.uniform(-1, 1, size=(2, height, width)).astype(np.float32)
    )
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return to_pixels(cv2.remap(values, columns + across, rows + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def pixelate(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Reduce the resolution, and enlarge the result without interpolation."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, (max(1, int(width * share)), max(1, int(height * share))), interpolation=cv2.INTER_AREA)
    large: Pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8)
    return large


def compress(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Encode the image as a low-quality JPEG, and decode it."""
    quality = (25, 18, 15, 10, 7)[severity - 1]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: Pixels = cv2.cvtColor(decode_image(encoded.tobytes()), cv2.COLOR_BGR2RGB).astype(np.uint8)
    return decoded


@lru_cache(maxsize=16)
def _blur_matrix(length: int, sigma: float) -> Floats:
    """Return the matrix, [length, length], that blurs a line with a Gaussian and reflection at both ends.

    Multiplying by a matrix is faster than a convolution, because sigma is up to three quarters of the length.
    """
    reach = max(1, round(3 * sigma))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    period = (np.arange(length)[:, None] + offsets) % (2 * length)
    sources = np.minimum(period, 2 * length - 1 - period)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], sources), weights / weights.sum())
    return matrix.astype(np.float32)
