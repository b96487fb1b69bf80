"""PaddleClas' `ColorJitter`, which is `paddle.vision.transforms.ColorJitter` with a probability."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from resnet50_pipeline.imaging.base import PixelOperator, Pixels, require_draw
from resnet50_pipeline.imaging.colors import enhance


class ColorJitter(PixelOperator):
    """Changes brightness, contrast, saturation and hue, in an order drawn anew, `prob` of the time.

    A factor is drawn from 1 - value .. 1 + value, not below 0; for hue, a turn from -value .. value.
    """

    needs_rgb: ClassVar[bool] = True

    prob: float = Field(default=2.0, ge=0, description="1 and more is always; upstream's default is 2.")
    brightness: float = Field(default=0.0, ge=0)
    contrast: float = Field(default=0.0, ge=0)
    saturation: float = Field(default=0.0, ge=0)
    hue: float = Field(default=0.0, ge=0, le=0.5, description="0.5 is half a turn, to the complementary colours.")

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return the changed pixels."""
        draw = require_draw(draw, self)
        if draw.random() >= self.prob:
            return pixels
        changes: list[tuple[Callable[[Image.Image, float], Image.Image], float, float]] = [
            (_enhancing("Brightness"), self.brightness, 1.0),
            (_enhancing("Contrast"), self.contrast, 1.0),
            (_enhancing("Color"), self.saturation, 1.0),
            (turn_hue, self.hue, 0.0),
        ]
        draw.shuffle(changes)
        image = Image.fromarray(pixels)
        for change, value, center in changes:
            if value:
                lowest = max(center - value, 0.0) if center else -value
                image = change(image, draw.uniform(lowest, center + value))
        return np.asarray(image)


def turn_hue(image: Image.Image, turn: float) -> Image.Image:
    """Return the picture with every hue turned, -0.5..0.5 of a whole turn, in Pillow's 256 steps."""
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.array(hue, dtype=np.int16) + int(turn * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert(image.mode)


def _enhancing(what: str) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, factor: enhance(image, what, factor)
