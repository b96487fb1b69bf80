"""Implements PaddleClas' `TimmAutoAugment`: timm's RandAugment, configured by a string such as `rand-m9-mstd0.5-inc1`.

    rand     RandAugment (arXiv:1909.13719): operations sampled with replacement, each applied with probability 0.5
    m9       magnitude 9 of 10
    n3       three operations per image; the default is 2
    mstd0.5  standard deviation of the normally distributed magnitude
    inc1     every operation distorts more at a higher magnitude

The formulas come from `ppcls/data/preprocess/ops/timm_autoaugment.py`, release/2.6. AugMix and AutoAugment are not
supported (upstream, `auto…` fails an assertion).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field, field_validator

from resnet50_pipeline.imaging.base import IMAGENET_MEAN, PixelOperator, Pixels, require_rng
from resnet50_pipeline.imaging.colors import Fill, enhance, shear, solarize_add, translate

_MAX_LEVEL = 10.0
_PROBABILITY = 0.5
_TRANSLATE_FRACTION = 0.45
_SECTION = re.compile(r"(m|n|mstd|inc)(\d+(?:\.\d+)?)")
_RESAMPLES = {
    "bilinear": (Image.Resampling.BILINEAR,),
    "bicubic": (Image.Resampling.BICUBIC,),
    "random": (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC),
}


class RandAugmentForm(NamedTuple):
    """Settings encoded in a `config_str`."""

    magnitude: int
    operations: int
    deviation: float
    is_increasing: bool


class _Geometry(NamedTuple):
    """Settings shared by all geometric operations."""

    rng: random.Random
    resamples: tuple[Image.Resampling, ...]
    fill: Fill


def parse_config_str(text: str) -> RandAugmentForm:
    """Parse a `config_str` such as `rand-m9-mstd0.5-inc1`.

    Raises:
        ValueError: if the string is invalid.
    """
    kind, *sections = text.split("-")
    if kind != "rand":
        raise ValueError(f"config_str {text!r}: {kind!r} is not supported → use RandAugment, `rand-…`")
    values: dict[str, str] = {}
    for section in sections:
        match = _SECTION.fullmatch(section)
        if match is None:
            raise ValueError(f"config_str {text!r}: {section!r} is unknown → use m<int>, n<int>, mstd<float> or inc1")
        values[match[1]] = match[2]
    if values.get("inc", "1") != "1":
        raise ValueError(
            f"config_str {text!r}: PaddleClas treats inc{values['inc']} as inc1 → use inc1, or remove the section"
        )
    try:
        return RandAugmentForm(
            magnitude=int(values.get("m", "10")),
            operations=int(values.get("n", "2")),
            deviation=float(values.get("mstd", "0")),
            is_increasing="inc" in values,
        )
    except ValueError as error:
        raise ValueError(
            f"config_str {text!r}: m and n must be followed by integers → use a form such as m9 or n2"
        ) from error


class TimmAutoAugment(PixelOperator):
    """Applies the RandAugment described by `config_str` with probability `prob`."""

    needs_rgb: ClassVar[bool] = True

    config_str: str = "rand-m9-mstd0.5-inc1"
    interpolation: Literal["bilinear", "bicubic", "random"] = "bicubic"
    img_size: int | tuple[int, int] = Field(
        default=224, description="Ignored, because `rand-…` does not use absolute translations."
    )
    mean: tuple[float, float, float] = Field(
        default=IMAGENET_MEAN, description="Color of the areas that shifts and rotations leave empty."
    )
    prob: float = Field(default=1.0, ge=0, le=1)

    @field_validator("config_str")
    @classmethod
    def _is_known(cls, value: str) -> str:
        parse_config_str(value)
        return value

    @cached_property
    def _form(self) -> RandAugmentForm:
        return parse_config_str(self.config_str)

    def apply(self, pixels: Pixels, rng: random.Random | None) -> Pixels:
        """Return the augmented pixels, or the unchanged pixels with probability 1 - `prob`."""
        rng = require_rng(rng, self)
        if rng.random() >= self.prob:
            return pixels
        red, green, blue = (min(255, round(255 * value)) for value in self.mean)
        geometry = _Geometry(rng, _RESAMPLES[self.interpolation], (red, green, blue))
        operations = _INCREASING if self._form.is_increasing else _OPERATIONS
        image = Image.fromarray(pixels)
        # Like upstream, choose all operations before any operation generates its own random numbers.
        for operation in [rng.choice(operations) for _ in range(self._form.operations)]:
            if rng.random() > _PROBABILITY:
                continue
            level = float(self._form.magnitude)
            if self._form.deviation > 0:
                level = rng.gauss(level, self._form.deviation)
            image = operation(image, min(_MAX_LEVEL, max(0.0, level)) / _MAX_LEVEL, geometry)
        return np.asarray(image)


# An operation takes an image, a level in 0..1 and the geometry. Like upstream, it samples the sign before
# the interpolation.
_Operation = Callable[[Image.Image, float, _Geometry], Image.Image]


def _flip_sign(value: float, rng: random.Random) -> float:
    return -value if rng.random() > _PROBABILITY else value


def _resample(geometry: _Geometry) -> Image.Resampling:
    # With a single interpolation, upstream generates no random number.
    return geometry.rng.choice(geometry.resamples) if len(geometry.resamples) > 1 else geometry.resamples[0]


def _autocontrast(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    return ImageOps.invert(image)


def _rotate(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    degrees = _flip_sign(level * 30.0, geometry.rng)
    return image.rotate(degrees, resample=_resample(geometry), fillcolor=geometry.fill)


def _posterize_to(bits: int, image: Image.Image) -> Image.Image:
    return image if bits >= 8 else ImageOps.posterize(image, bits)


def _posterize(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    return _posterize_to(int(level * 4), image)


def _posterize_increasing(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    return _posterize_to(4 - int(level * 4), image)


def _solarize(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    return ImageOps.solarize(image, int(level * 256))


def _solarize_increasing(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(level * 256))


def _solarize_add(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    return solarize_add(image, int(level * 110))


def _enhancer(kind: str) -> _Operation:
    return lambda image, level, geometry: enhance(image, kind, level * 1.8 + 0.1)


def _increasing_enhancer(kind: str) -> _Operation:
    return lambda image, level, geometry: enhance(image, kind, 1.0 + _flip_sign(level * 0.9, geometry.rng))


def _shear_x(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    factor = _flip_sign(level * 0.3, geometry.rng)
    return shear(image, factor, 0, _resample(geometry), geometry.fill)


def _shear_y(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    factor = _flip_sign(level * 0.3, geometry.rng)
    return shear(image, 0, factor, _resample(geometry), geometry.fill)


def _translate_x(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    fraction = _flip_sign(level * _TRANSLATE_FRACTION, geometry.rng)
    return translate(image, fraction * image.size[0], 0, _resample(geometry), geometry.fill)


def _translate_y(image: Image.Image, level: float, geometry: _Geometry) -> Image.Image:
    fraction = _flip_sign(level * _TRANSLATE_FRACTION, geometry.rng)
    return translate(image, 0, fraction * image.size[1], _resample(geometry), geometry.fill)


_ENHANCED = ("Color", "Contrast", "Brightness", "Sharpness")
_MOVES: tuple[_Operation, ...] = (_shear_x, _shear_y, _translate_x, _translate_y)
_OPERATIONS: tuple[_Operation, ...] = (
    *(_autocontrast, _equalize, _invert, _rotate, _posterize, _solarize, _solarize_add),
    *map(_enhancer, _ENHANCED),
    *_MOVES,
)
_INCREASING: tuple[_Operation, ...] = (
    *(_autocontrast, _equalize, _invert, _rotate, _posterize_increasing, _solarize_increasing, _solarize_add),
    *map(_increasing_enhancer, _ENHANCED),
    *_MOVES,
)
