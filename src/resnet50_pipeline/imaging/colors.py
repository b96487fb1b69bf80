"""Implements the image operations shared by several augmentations."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageEnhance

Fill = tuple[int, int, int]

SOLARIZE_ADD_THRESHOLD = 128


def solarize_add(image: Image.Image, amount: int) -> Image.Image:
    """Add `amount` to every value below 128 and clip the result to 255."""
    values = [min(255, value + amount) if value < SOLARIZE_ADD_THRESHOLD else value for value in range(256)]
    return image.point(values * 3)


def shear(image: Image.Image, x: float, y: float, resample: Image.Resampling, fill: Fill | None) -> Image.Image:
    """Shear the image by `x` pixels to the left per row and `y` pixels up per column."""
    return image.transform(image.size, Image.Transform.AFFINE, (1, x, 0, y, 1, 0), resample=resample, fillcolor=fill)


def translate(image: Image.Image, x: float, y: float, resample: Image.Resampling, fill: Fill | None) -> Image.Image:
    """Move the image left by `x` pixels and up by `y` pixels."""
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y), resample=resample, fillcolor=fill)


def enhance(image: Image.Image, kind: str, factor: float) -> Image.Image:
    """Scale the Brightness, Color, Contrast or Sharpness of the image. A factor of 1 leaves the image unchanged."""
    enhancer: Callable[[Image.Image], ImageEnhance._Enhance] = getattr(ImageEnhance, kind)
    return enhancer(image).enhance(factor)
