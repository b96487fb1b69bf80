"""Weather corruptions: snow, frost, fog and brightness."""

from __future__ import annotations

import math

import cv2
import numpy as np

from resnet50_pipeline.imaging.base import Pixels
from resnet50_pipeline.imaging.corruptions.base import (
    Floats,
    blur_along,
    length_scale,
    make_plasma,
    to_floats,
    to_pixels,
)

_ICE = (0.86, 0.96, 1.0)
_NEEDLE_DIRECTIONS = 5


def add_snow(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Whiten the image, and add flakes that fall in two directions."""
    mean, deviation, size, threshold, radius, sigma, share = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    height, width = pixels.shape[:2]
    scale = length_scale(pixels)
    size = max(1, size * scale)
    small = rng.normal(mean, deviation, size=(math.ceil(height / size), math.ceil(width / size)))
    flakes = cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    flakes = np.clip(np.where(flakes < threshold, np.float32(0), flakes), 0, 1)
    flakes = blur_along(flakes, radius * scale, sigma * scale, rng.uniform(-135, -45))[..., None]
    values = to_floats(pixels)
    gray = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = share * values + (1 - share) * np.maximum(values, gray * 1.5 + 0.5)
    return to_pixels(whitened + flakes + flakes[::-1, ::-1])


def add_frost(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Add ice crystals from a generated texture, whereas ImageNet-C uses photographs of frost."""
    kept, added = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    frost = _make_frost(pixels.shape[0], pixels.shape[1], length_scale(pixels), rng)
    return to_pixels(kept * to_floats(pixels) + added * frost)


def add_fog(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Add a plasma fractal, and reduce the contrast accordingly."""
    strength, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity - 1]
    values = to_floats(pixels)
    plasma = make_plasma(pixels.shape[0], pixels.shape[1], decay, rng)
    brightest = float(values.max())
    return to_pixels((values + strength * plasma[..., None]) * (brightest / (brightest + strength)))


def brighten(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Add a constant to the value channel of HSV."""
    added = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    hsv = cv2.cvtColor(to_floats(pixels), cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
    return to_pixels(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def _make_frost(height: int, width: int, scale: float, rng: np.random.Generator) -> Floats:
    """Generate a texture of ice needles, float32 [height, width, 3] in 0..1.

    A plasma fractal divides the texture into regions whose needles point in different directions. The mean brightness
    of a texture is in 0.5..0.8, as in ImageNet-C's photographs.
    """
    plasma = make_plasma(height, width, 1.5, rng)
    noise = rng.standard_normal((height, width), dtype=np.float32)
    needles = [
        blur_along(noise, max(1, 8 * scale), max(0.5, 6 * scale), degrees)
        for degrees in rng.uniform(0, 360, size=_NEEDLE_DIRECTIONS)
    ]
    regions = (plasma * (3 * _NEEDLE_DIRECTIONS - 1)).astype(np.intp) % _NEEDLE_DIRECTIONS
    crystals = np.choose(regions, needles)
    crystals = crystals / max(float(crystals.std()), 1e-6)
    brightness = rng.uniform(0.5, 0.8) + 0.1 * crystals + 0.2 * (plasma - plasma.mean())
    ice: Floats = np.clip(brightness, 0, 1)[..., None] * np.array(_ICE, dtype=np.float32)
    return ice
