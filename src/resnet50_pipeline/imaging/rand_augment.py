"""PaddleClas' `RandAugment`: a fixed number of operations, each at one magnitude (arXiv:1909.13719).

The formulas are those of `ppcls/data/preprocess/ops/randaugment.py`, release/2.6: `posterize` keeps more bits at a
higher magnitude and `rotate` turns one way only, as there. The variants V2 to V4 of other networks are not supported.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field

from resnet50_pipeline.imaging.base import PixelOperator, Pixels, require_draw
from resnet50_pipeline.imaging.colors import Fill, enhance, shear, translate

_MAX_LEVEL = 10.0
_GREY = (128,) * 4


class RandAugment(PixelOperator):
    """`num_layers` operations of fourteen, drawn with repetition, at `magnitude` of 10."""

    needs_rgb: ClassVar[bool] = True

    num_layers: int = Field(default=2, ge=1)
    magnitude: float = Field(default=5, ge=0, le=10)
    fillcolor: Fill = (128, 128, 128)

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return the changed pixels."""
        draw = require_draw(draw, self)
        image = Image.fromarray(pixels)
        for _ in range(self.num_layers):
            image = draw.choice(_OPERATIONS)(image, self.magnitude / _MAX_LEVEL, self.fillcolor, draw)
        return np.asarray(image)


_Operation = Callable[[Image.Image, float, Fill, random.Random], Image.Image]


def _sign(draw: random.Random) -> int:
    return draw.choice((-1, 1))


def _shear_x(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    return shear(image, 0.3 * level * _sign(draw), 0, Image.Resampling.BICUBIC, fill)


def _shear_y(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    return shear(image, 0, 0.3 * level * _sign(draw), Image.Resampling.BICUBIC, fill)


def _translate_x(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    return translate(image, 150.0 / 331 * level * image.size[0] * _sign(draw), 0, Image.Resampling.NEAREST, fill)


def _translate_y(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    return translate(image, 0, 150.0 / 331 * level * image.size[1] * _sign(draw), Image.Resampling.NEAREST, fill)


def _rotate(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    turned = image.convert("RGBA").rotate(30 * level)
    return Image.composite(turned, Image.new("RGBA", turned.size, _GREY), turned).convert(image.mode)


def _posterize(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    return ImageOps.posterize(image, int(4.0 * level))


def _solarize(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    return ImageOps.solarize(image, 256.0 * level)  # type: ignore[arg-type]  # any number will do


def _autocontrast(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, level: float, fill: Fill, draw: random.Random) -> Image.Image:
    return ImageOps.invert(image)


def _enhancing(what: str) -> _Operation:
    return lambda image, level, fill, draw: enhance(image, what, 1 + 0.9 * level * _sign(draw))


# In upstream's order, from which one is drawn.
_OPERATIONS: tuple[_Operation, ...] = (
    *(_shear_x, _shear_y, _translate_x, _translate_y, _rotate, _enhancing("Color"), _posterize, _solarize),
    *map(_enhancing, ("Contrast", "Sharpness", "Brightness")),
    *(_autocontrast, _equalize, _invert),
)
