"""PaddleClas' preprocessing operators, with the same names, arguments and (bit for bit) the same results.

An operator is written in YAML as a mapping with one key, and a list of them is a transform:

    - DecodeImage: {to_rgb: true, channel_first: false}
    - ResizeImage: {resize_short: 256}
    - CropImage: {size: 224}
    - NormalizeImage: {scale: 1.0/255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], order: ''}

The formulas are those of `ppcls/data/preprocess/ops/operators.py`, release/2.6. Two things differ inside and not
in the result: pixels stay in the decoder's channel order until the end, and normalising is a table look-up.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resnet50_pipeline.exceptions import ImageDecodeError, TrainingConfigError
from resnet50_pipeline.imaging.decode import decode_image

Pixels = NDArray[np.uint8]
Transform = Callable[[bytes, random.Random | None], NDArray[np.float32]]

# 4 gigapixels would come of a 6 KB JPEG of 60000 x 1 pixels whose short side is scaled to 256.
_MAX_RESIZED_PIXELS = 1 << 26

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Operator(BaseModel):
    """Frozen arguments of one operator; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DecodeImage(Operator):
    """Bytes → pixels [height, width, 3]."""

    to_rgb: Literal[True] = True
    channel_first: Literal[False] = False


class PixelOperator(Operator):
    """An operator from pixels to pixels, uint8 [height, width, 3]."""

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return the changed pixels; `draw` gives the random numbers of operators that need them."""
        raise NotImplementedError


class ResizeImage(PixelOperator):
    """Scales the short side to `resize_short` pixels, bilinear."""

    resize_short: int = Field(ge=1)

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return pixels whose short side is `resize_short`."""
        height, width = pixels.shape[:2]
        factor = float(self.resize_short) / min(width, height)
        new_width, new_height = round(width * factor), round(height * factor)
        if new_width * new_height > _MAX_RESIZED_PIXELS:
            raise ImageDecodeError(
                f"image: {width} x {height} pixels would become {new_width} x {new_height}; no picture is so long"
            )
        return _resize(pixels, new_width, new_height)


class CropImage(PixelOperator):
    """Cuts the square of `size` pixels out of the middle."""

    size: int = Field(ge=1)

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return pixels [size, size, 3]."""
        height, width = pixels.shape[:2]
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return pixels[top : top + self.size, left : left + self.size]


class RandCropImage(PixelOperator):
    """Cuts a random part (area in `scale`, width / height in `ratio`) and scales it to `size`, bilinear."""

    size: int = Field(ge=1)
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return pixels [size, size, 3]; draws in PaddleClas' order: aspect ratio, area, left, top."""
        draw = _require_draw(draw, self)
        aspect_ratio = draw.uniform(*self.ratio)
        height, width = pixels.shape[:2]
        bound = min((float(width) / height) / aspect_ratio, (float(height) / width) * aspect_ratio)
        area = width * height * draw.uniform(min(self.scale[0], bound), min(self.scale[1], bound))
        crop_width = max(1, int(math.sqrt(area * aspect_ratio)))
        crop_height = max(1, int(math.sqrt(area / aspect_ratio)))
        left = draw.randint(0, width - crop_width)
        top = draw.randint(0, height - crop_height)
        return _resize(pixels[top : top + crop_height, left : left + crop_width], self.size, self.size)


class RandFlipImage(PixelOperator):
    """Mirrors left-right, half of the time."""

    flip_code: Literal[1] = 1

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return the pixels, mirrored or not."""
        if _require_draw(draw, self).randint(0, 1) == 1:
            flipped: Pixels = cv2.flip(pixels, self.flip_code)
            return flipped
        return pixels


class NormalizeImage(Operator):
    """`(pixels * scale - mean) / std` in float32; `order: ''` says that pixels are [height, width, channel]."""

    scale: Literal["1.0/255.0"] = Field(default="1.0/255.0", description="A text in PaddleClas' files, so it is here.")
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    order: Literal[""] = ""

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """The result for every pixel value: float32 [256, 3], channels red, green, blue."""
        values = np.arange(256, dtype=np.uint8).reshape(256, 1).astype("float32")
        mean, std = np.array(self.mean).astype("float32"), np.array(self.std).astype("float32")
        table: NDArray[np.float32] = (values * np.float32(1.0 / 255.0) - mean) / std
        return table


class ToCHWImage(Operator):
    """[height, width, channel] → [channel, height, width]; every transform here ends with it, written or not."""


_OPERATORS: dict[str, type[Operator]] = {
    operator.__name__: operator
    for operator in (DecodeImage, ResizeImage, CropImage, RandCropImage, RandFlipImage, NormalizeImage, ToCHWImage)
}


class TransformOp(BaseModel):
    """One item of `transform_ops`: a mapping with one key, the operator's name."""

    model_config = ConfigDict(frozen=True)

    operator: Operator

    @model_validator(mode="before")
    @classmethod
    def _from_one_key_mapping(cls, value: Any) -> Any:
        if isinstance(value, Operator):
            return {"operator": value}
        if not isinstance(value, Mapping):
            raise ValueError(f"an operator is a mapping with one key, not {value!r}")
        if set(value) == {"operator"}:
            return value
        if len(value) != 1:
            raise ValueError(f"an operator is a mapping with one key, here are {len(value)}: {sorted(value)}")
        ((name, arguments),) = value.items()
        if name not in _OPERATORS:
            raise ValueError(f"operator {name} is not supported; known: {', '.join(sorted(_OPERATORS))}")
        return {"operator": _OPERATORS[name].model_validate(arguments or {})}

    def as_mapping(self) -> dict[str, Any]:
        """Return the YAML form, `{"CropImage": {"size": 224}}`."""
        return {type(self.operator).__name__: self.operator.model_dump(mode="json")}


def build_transform(transform_ops: Sequence[Mapping[str, Any] | TransformOp]) -> Transform:
    """Return the function that a list of operators describes: `(bytes, random numbers) -> float32 [3, size, size]`.

    The channels of the result are red, green, blue. `None` for the random numbers suits transforms that draw none.

    Raises:
        TrainingConfigError: an operator or argument is unknown, or the list does not run decode → … → normalise.
    """
    try:
        operators = [TransformOp.model_validate(op).operator for op in transform_ops]
    except ValidationError as error:
        raise TrainingConfigError(f"transform_ops: {error}") from error
    if operators and isinstance(operators[-1], ToCHWImage):
        operators.pop()
    if len(operators) < 2 or not isinstance(operators[0], DecodeImage):
        raise TrainingConfigError("transform_ops must begin with DecodeImage and end with NormalizeImage")
    normalize, middle = operators[-1], operators[1:-1]
    if not isinstance(normalize, NormalizeImage):
        raise TrainingConfigError(f"transform_ops must end with NormalizeImage, not {type(normalize).__name__}")
    pixel_operators = _only_pixel_operators(middle)
    table = np.ascontiguousarray(normalize.table[:, ::-1]).reshape(256, 1, 3)  # in the decoder's order: BGR

    def transform(data: bytes, draw: random.Random | None = None) -> NDArray[np.float32]:
        pixels = decode_image(data)
        for operator in pixel_operators:
            pixels = operator.apply(pixels, draw)
        normalized = cv2.LUT(np.ascontiguousarray(pixels), table)
        return np.ascontiguousarray(normalized[:, :, ::-1].transpose(2, 0, 1))

    return transform


def _only_pixel_operators(operators: Sequence[Operator]) -> list[PixelOperator]:
    pixel_operators = [operator for operator in operators if isinstance(operator, PixelOperator)]
    if len(pixel_operators) != len(operators):
        wrong = next(type(op).__name__ for op in operators if not isinstance(op, PixelOperator))
        raise TrainingConfigError(f"transform_ops: {wrong} cannot stand between DecodeImage and NormalizeImage")
    return pixel_operators


def _resize(pixels: Pixels, width: int, height: int) -> Pixels:
    resized: Pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized


def _require_draw(draw: random.Random | None, operator: Operator) -> random.Random:
    if draw is None:
        raise TrainingConfigError(f"{type(operator).__name__} draws random numbers and was given none")
    return draw


__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "CropImage",
    "DecodeImage",
    "NormalizeImage",
    "RandCropImage",
    "RandFlipImage",
    "ResizeImage",
    "ToCHWImage",
    "Transform",
    "TransformOp",
    "build_transform",
]
