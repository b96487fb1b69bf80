"""Noise corruptions: Gaussian, shot and impulse noise."""

from __future__ import annotations

import numpy as np

from resnet50_pipeline.imaging.base import Pixels
from resnet50_pipeline.imaging.corruptions.base import to_floats, to_pixels


def add_gaussian_noise(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise, as in low light."""
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(deviation)
    return to_pixels(to_floats(pixels) + noise)


def add_shot_noise(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Sample each value from a Poisson distribution, as if only a few photons were counted."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    return to_pixels(rng.poisson(to_floats(pixels) * photons) / photons)


def add_impulse_noise(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Set a fraction of the values to 0 or 255 (salt-and-pepper noise)."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    draw = rng.random(pixels.shape, dtype=np.float32)
    noisy: Pixels = np.where(draw < share / 2, np.uint8(0), np.where(draw < share, np.uint8(255), pixels))
    return noisy
