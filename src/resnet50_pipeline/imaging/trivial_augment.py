"""Implements TrivialAugment (arXiv:2103.10158): one operation of random strength per image (`native` engine only).

The operations and strengths match torchvision's `TrivialAugmentWide` (`--auto-augment ta_wide`), which was used to
train torchvision's ResNet50 with 80.9% top-1 accuracy. PaddleClas has no such operator.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field

from resnet50_pipeline.imaging.base import PixelOperator, Pixels, require_rng
from resnet50_pipeline.imaging.colors import Fill, enhance, shear, translate

_RESAMPLES = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class TrivialAugmentWide(PixelOperator):
    """*native*: applies one of 14 operations at one of `num_magnitude_bins` strengths."""

    needs_rgb: ClassVar[bool] = True

    num_magnitude_bins: int = Field(default=31, ge=2)
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "nearest"
    fillcolor: Fill = Field(default=(0, 0, 0), description="Color of the areas that shifts and rotations leave empty.")

    def apply(self, pixels: Pixels, rng: random.Random | None) -> Pixels:
        """Return the augmented pixels. The operation, its strength and its sign, if any, are sampled with `rng`."""
        rng = require_rng(rng, self)
        name = rng.choice(_NAMES)
        level = rng.randrange(self.num_magnitude_bins) / (self.num_magnitude_bins - 1)
        if name in _SIGNED and rng.random() < 0.5:
            level = -level
        operation = _OPERATIONS[name]
        return np.asarray(operation(Image.fromarray(pixels), level, _RESAMPLES[self.interpolation], self.fillcolor))


_Operation = Callable[[Image.Image, float, Image.Resampling, Fill], Image.Image]

# Full strength (level 1) means shearing by 0.99, translating by 32 pixels, rotating by 135 degrees, enhancing by a
# factor of 0.01 or 1.99, and posterizing to two bits.
_OPERATIONS: dict[str, _Operation] = {
    "Identity": lambda image, level, resample, fill: image,
    "ShearX": lambda image, level, resample, fill: shear(image, 0.99 * level, 0, resample, fill),
    "ShearY": lambda image, level, resample, fill: shear(image, 0, 0.99 * level, resample, fill),
    "TranslateX": lambda image, level, resample, fill: translate(image, int(32.0 * level), 0, resample, fill),
    "TranslateY": lambda image, level, resample, fill: translate(image, 0, int(32.0 * level), resample, fill),
    "Rotate": lambda image, level, resample, fill: image.rotate(135.0 * level, resample=resample, fillcolor=fill),
    "Brightness": lambda image, level, resample, fill: enhance(image, "Brightness", 1.0 + 0.99 * level),
    "Color": lambda image, level, resample, fill: enhance(image, "Color", 1.0 + 0.99 * level),
    "Contrast": lambda image, level, resample, fill: enhance(image, "Contrast", 1.0 + 0.99 * level),
    "Sharpness": lambda image, level, resample, fill: enhance(image, "Sharpness", 1.0 + 0.99 * level),
    "Posterize": lambda image, level, resample, fill: ImageOps.posterize(image, 8 - round(6 * level)),
    "Solarize": lambda image, level, resample, fill: ImageOps.solarize(
        image,
        255.0 * (1.0 - level),  # type: ignore[arg-type]  # any number works
    ),
    "AutoContrast": lambda image, level, resample, fill: ImageOps.autocontrast(image),
    "Equalize": lambda image, level, resample, fill: ImageOps.equalize(image),
}
_NAMES = tuple(_OPERATIONS)
_SIGNED = frozenset(
    {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"}
)
