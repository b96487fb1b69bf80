"""Implements the geometric operators: resize, crop and flip."""

from __future__ import annotations

import math
import random
from typing import ClassVar, Literal, Self

import cv2
from pydantic import Field, model_validator

from resnet50_pipeline.imaging.base import PixelOperator, Pixels, require_rng
from resnet50_pipeline.imaging.interpolation import ResizingOperator

Side = int | tuple[int, int]


class ResizeImage(ResizingOperator):
    """Scales the short side to `resize_short` pixels, or the image to `size` (side, or width and height)."""

    omitted_defaults: ClassVar[frozenset[str]] = ResizingOperator.omitted_defaults | {"resize_short", "size"}

    resize_short: int | None = Field(default=None, ge=1)
    size: Side | None = Field(
        default=None,
        description="Size of the result: side of a square, or width and height. Cannot be combined with resize_short.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.resize_short is None) == (self.size is None):
            raise ValueError(
                f"set either resize_short or size; found resize_short {self.resize_short} and size {self.size}"
            )
        return self

    def apply(self, pixels: Pixels, rng: random.Random | None) -> Pixels:
        """Return the resized pixels."""
        height, width = pixels.shape[:2]
        if self.resize_short is not None:
            factor = float(self.resize_short) / min(width, height)
            return self.resize(pixels, round(width * factor), round(height * factor), rng)
        new_width, new_height = self.size if isinstance(self.size, tuple) else (self.size or 0, self.size or 0)
        return self.resize(pixels, new_width, new_height, rng)


class CropImage(PixelOperator):
    """Crops a square with sides of `size` pixels from the center."""

    size: int = Field(ge=1)

    def apply(self, pixels: Pixels, rng: random.Random | None) -> Pixels:
        """Return pixels [size, size, 3]."""
        height, width = pixels.shape[:2]
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return pixels[top : top + self.size, left : left + self.size]


class RandCropImage(ResizingOperator):
    """Crops a random window (area fraction within `scale`, width / height within `ratio`) and scales it to `size`.

    PaddleClas' `progress_size` argument, which only its EfficientNetV2 trainer uses, is not supported. Use
    `DataLoader.Train.dataset.progressive_resize` instead.
    """

    omitted_defaults: ClassVar[frozenset[str]] = ResizingOperator.omitted_defaults | {"use_log_aspect"}

    size: int = Field(ge=1)
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    use_log_aspect: bool = Field(
        default=False,
        description="Sample the logarithm of the aspect ratio uniformly, so that 3/4 is as likely as 4/3.",
    )

    def apply(self, pixels: Pixels, rng: random.Random | None) -> Pixels:
        """Return pixels [size, size, 3]."""
        height, width = pixels.shape[:2]
        rng = require_rng(rng, self)
        left, top, crop_width, crop_height = self.draw_window(width, height, rng)
        return self.resize_window(pixels[top : top + crop_height, left : left + crop_width], rng)

    def resize_window(self, pixels: Pixels, rng: random.Random) -> Pixels:
        """Return the pixels of a window, scaled to [size, size, 3]."""
        return self.resize(pixels, self.size, self.size, rng)

    def draw_window(self, width: int, height: int, rng: random.Random) -> tuple[int, int, int, int]:
        """Return the left, top, width and height of a random window.

        Random numbers are generated in the same order as in PaddleClas: aspect ratio, area, left, top.
        """
        if self.use_log_aspect:
            aspect_ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        else:
            aspect_ratio = rng.uniform(*self.ratio)
        bound = min((float(width) / height) / aspect_ratio, (float(height) / width) * aspect_ratio)
        area = width * height * rng.uniform(min(self.scale[0], bound), min(self.scale[1], bound))
        crop_width = max(1, int(math.sqrt(area * aspect_ratio)))
        crop_height = max(1, int(math.sqrt(area / aspect_ratio)))
        left = rng.randint(0, width - crop_width)
        top = rng.randint(0, height - crop_height)
        return left, top, crop_width, crop_height


class RandFlipImage(PixelOperator):
    """Flips the image with probability 0.5: horizontally (1), vertically (0) or both (-1)."""

    flip_code: Literal[-1, 0, 1] = 1

    def apply(self, pixels: Pixels, rng: random.Random | None) -> Pixels:
        """Return the pixels, flipped with probability 0.5."""
        if self.draw_flip(require_rng(rng, self)):
            flipped: Pixels = cv2.flip(pixels, self.flip_code)
            return flipped
        return pixels

    def draw_flip(self, rng: random.Random) -> bool:
        """Return True with probability 0.5."""
        return rng.randint(0, 1) == 1
