"""Implements PaddleClas' `RandAugment`: several random operations at the same magnitude (arXiv:1909.13719).

The formulas come from `ppcls/data/preprocess/ops/randaugment.py`, release/2.6. Like upstream, `posterize` keeps more
bits at higher magnitudes, and `rotate` rotates in only one direction. Variants V2 to V4 are not supported.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field

from resnet50_pipeline.imaging.base import PixelOperator, Pixels, require_rng
from resnet50_pipeline.imaging.colors import Fill, enhance, shear, translate

_MAX_LEVEL = 10.0
_GRAY = (128,) * 4


class RandAugment(PixelOperator):
    """Applies `num_layers` of 14 operations, sampled with replacement, at a strength of `magnitude` / 10."""

    needs_rgb: ClassVar[bool] = True

    num_layers: int = Field(default=2, ge=1)
    magnitude: float = Field(default=5, ge=0, le=10)
    fillcolor: Fill = (128, 128, 128)

    def apply(self, pixels: Pixels, rng: random.Random | None) -> Pixels:
        """Apply the sampled operations in order and return the resulting pixels."""
        rng = require_rng(rng, self)
        image = Image.fromarray(pixels)
        for _ in range(self.num_layers):
            image = rng.choice(_OPERATIONS)(image, self.magnitude / _MAX_LEVEL, self.fillcolor, rng)
        return np.asarray(image)


_Operation = Callable[[Image.Image, float, Fill, random.Random], Image.Image]


def _sign(rng: random.Random) -> int:
    return rng.choice((-1, 1))


def _shear_x(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    return shear(image, 0.3 * level * _sign(rng), 0, Image.Resampling.BICUBIC, fill)


def _shear_y(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    return shear(image, 0, 0.3 * level * _sign(rng), Image.Resampling.BICUBIC, fill)


def _translate_x(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    return translate(image, 150.0 / 331 * level * image.size[0] * _sign(rng), 0, Image.Resampling.NEAREST, fill)


def _translate_y(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    return translate(image, 0, 150.0 / 331 * level * image.size[1] * _sign(rng), Image.Resampling.NEAREST, fill)


def _rotate(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    rotated = image.convert("RGBA").rotate(30 * level)
    return Image.composite(rotated, Image.new("RGBA", rotated.size, _GRAY), rotated).convert(image.mode)


def _posterize(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    return ImageOps.posterize(image, int(4.0 * level))


def _solarize(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    return ImageOps.solarize(image, 256.0 * level)  # type: ignore[arg-type]  # any number works


def _autocontrast(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, level: float, fill: Fill, rng: random.Random) -> Image.Image:
    return ImageOps.invert(image)


def _enhancer(kind: str) -> _Operation:
    return lambda image, level, fill, rng: enhance(image, kind, 1 + 0.9 * level * _sign(rng))


# Same order as upstream, because the random choice depends on it.
_OPERATIONS: tuple[_Operation, ...] = (
    *(_shear_x, _shear_y, _translate_x, _translate_y, _rotate, _enhancer("Color"), _posterize, _solarize),
    *map(_enhancer, ("Contrast", "Sharpness", "Brightness")),
    *(_autocontrast, _equalize, _invert),
)
