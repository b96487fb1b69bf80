"""Operators that choose which part of a picture is seen, and how large: resize, crop, flip."""

from __future__ import annotations

import math
import random
from typing import ClassVar, Literal, Self

import cv2
from pydantic import Field, model_validator

from resnet50_pipeline.imaging.base import PixelOperator, Pixels, require_draw
from resnet50_pipeline.imaging.interpolation import ResizingOperator

Side = int | tuple[int, int]


class ResizeImage(ResizingOperator):
    """Scales the short side to `resize_short` pixels, or the picture to `size` (a side, or width and height)."""

    left_out: ClassVar[frozenset[str]] = ResizingOperator.left_out | {"resize_short", "size"}

    resize_short: int | None = Field(default=None, ge=1)
    size: Side | None = Field(default=None, description="Not looked at beside resize_short, so refused there.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.resize_short is None) == (self.size is None):
            raise ValueError("ResizeImage takes either resize_short or size")
        return self

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return the scaled pixels."""
        height, width = pixels.shape[:2]
        if self.resize_short is not None:
            factor = float(self.resize_short) / min(width, height)
            return self.resize(pixels, round(width * factor), round(height * factor), draw)
        new_width, new_height = self.size if isinstance(self.size, tuple) else (self.size or 0, self.size or 0)
        return self.resize(pixels, new_width, new_height, draw)


class CropImage(PixelOperator):
    """Cuts the square of `size` pixels out of the middle."""

    size: int = Field(ge=1)

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return pixels [size, size, 3]."""
        height, width = pixels.shape[:2]
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return pixels[top : top + self.size, left : left + self.size]


class RandCropImage(ResizingOperator):
    """Cuts a random part (area in `scale`, width / height in `ratio`) and scales it to `size`.

    PaddleClas' `progress_size` belongs to its own progressive trainer, which sees EfficientNetV2 only; here sizes grow
    with `DataLoader.Train.dataset.progressive_resize`.
    """

    left_out: ClassVar[frozenset[str]] = ResizingOperator.left_out | {"use_log_aspect"}

    size: int = Field(ge=1)
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    use_log_aspect: bool = Field(
        default=False, description="Draw the logarithm of the aspect ratio evenly: 3/4 is then as likely as 4/3."
    )

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return pixels [size, size, 3]."""
        height, width = pixels.shape[:2]
        draw = require_draw(draw, self)
        left, top, crop_width, crop_height = self.draw_window(width, height, draw)
        return self.resize_window(pixels[top : top + crop_height, left : left + crop_width], draw)

    def resize_window(self, pixels: Pixels, draw: random.Random) -> Pixels:
        """Return the part that `draw_window` chose, scaled to [size, size, 3]."""
        return self.resize(pixels, self.size, self.size, draw)

    def draw_window(self, width: int, height: int, draw: random.Random) -> tuple[int, int, int, int]:
        """Return left, top, width and height of the part; draws in PaddleClas' order: aspect, area, left, top."""
        if self.use_log_aspect:
            aspect_ratio = math.exp(draw.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        else:
            aspect_ratio = draw.uniform(*self.ratio)
        bound = min((float(width) / height) / aspect_ratio, (float(height) / width) * aspect_ratio)
        area = width * height * draw.uniform(min(self.scale[0], bound), min(self.scale[1], bound))
        crop_width = max(1, int(math.sqrt(area * aspect_ratio)))
        crop_height = max(1, int(math.sqrt(area / aspect_ratio)))
        left = draw.randint(0, width - crop_width)
        top = draw.randint(0, height - crop_height)
        return left, top, crop_width, crop_height


class RandFlipImage(PixelOperator):
    """Mirrors half of the time: left-right (1), upside down (0) or both (-1)."""

    flip_code: Literal[-1, 0, 1] = 1

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return the pixels, mirrored or not."""
        if self.draw_flip(require_draw(draw, self)):
            flipped: Pixels = cv2.flip(pixels, self.flip_code)
            return flipped
        return pixels

    def draw_flip(self, draw: random.Random) -> bool:
        """Return whether to mirror."""
        return draw.randint(0, 1) == 1
