"""Changes of a Pillow picture that several augmentations share, by what they do."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageEnhance

Fill = tuple[int, int, int]

SOLARIZE_ADD_THRESHOLD = 128


def solarize_add(image: Image.Image, amount: int) -> Image.Image:
    """Return the picture with `amount` added to every value below the middle, up to 255."""
    values = [min(255, value + amount) if value < SOLARIZE_ADD_THRESHOLD else value for value in range(256)]
    return image.point(values * 3)


def shear(image: Image.Image, x: float, y: float, resample: Image.Resampling, fill: Fill | None) -> Image.Image:
    """Return the picture, column moved by `x` a row and row by `y` a column."""
    return image.transform(image.size, Image.Transform.AFFINE, (1, x, 0, y, 1, 0), resample=resample, fillcolor=fill)


def translate(image: Image.Image, x: float, y: float, resample: Image.Resampling, fill: Fill | None) -> Image.Image:
    """Return the picture moved left by `x` and up by `y` pixels."""
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y), resample=resample, fillcolor=fill)


def enhance(image: Image.Image, what: str, factor: float) -> Image.Image:
    """Return the picture with another Brightness, Color, Contrast or Sharpness; factor 1 changes nothing."""
    enhancer: Callable[[Image.Image], ImageEnhance._Enhance] = getattr(ImageEnhance, what)
    return enhancer(image).enhance(factor)
