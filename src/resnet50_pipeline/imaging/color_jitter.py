"""Implements PaddleClas' `ColorJitter`, which applies Paddle's `ColorJitter` with a given probability."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from resnet50_pipeline.imaging.base import PixelOperator, Pixels, require_rng
from resnet50_pipeline.imaging.colors import enhance


class ColorJitter(PixelOperator):
    """Changes brightness, contrast, saturation and hue in a random order, with probability `prob`.

    Each factor is sampled from [max(0, 1 - value), 1 + value]. The hue rotation is sampled from [-value, value].
    """

    needs_rgb: ClassVar[bool] = True

    prob: float = Field(
        default=2.0,
        ge=0,
        description="Probability of changing the image. A value of 1 or more changes every image.",
    )
    brightness: float = Field(default=0.0, ge=0)
    contrast: float = Field(default=0.0, ge=0)
    saturation: float = Field(default=0.0, ge=0)
    hue: float = Field(default=0.0, ge=0, le=0.5, description="Maximum hue rotation; 0.5 is a half turn.")

    def apply(self, pixels: Pixels, rng: random.Random | None) -> Pixels:
        """Return the pixels with jittered colors, or the unchanged pixels with probability 1 - `prob`."""
        rng = require_rng(rng, self)
        if rng.random() >= self.prob:
            return pixels
        changes: list[tuple[Callable[[Image.Image, float], Image.Image], float, float]] = [
            (_enhancer("Brightness"), self.brightness, 1.0),
            (_enhancer("Contrast"), self.contrast, 1.0),
            (_enhancer("Color"), self.saturation, 1.0),
            (rotate_hue, self.hue, 0.0),
        ]
        rng.shuffle(changes)
        image = Image.fromarray(pixels)
        for change, value, center in changes:
            if value:
                lowest = max(center - value, 0.0) if center else -value
                image = change(image, rng.uniform(lowest, center + value))
        return np.asarray(image)


def rotate_hue(image: Image.Image, fraction: float) -> Image.Image:
    """Rotate every hue by a fraction of the color circle, -0.5..0.5, in steps of 1/256."""
    hue, saturation, value = image.convert("HSV").split()
    rotated = (np.array(hue, dtype=np.int16) + int(fraction * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(rotated.astype(np.uint8)), saturation, value)).convert(image.mode)


def _enhancer(kind: str) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, factor: enhance(image, kind, factor)
