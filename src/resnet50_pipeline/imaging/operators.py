"""PaddleClas' preprocessing operators, with the same names, arguments and (bit for bit) the same results.

An operator is written in YAML as a mapping with one key, and a list of them is a transform:

    - DecodeImage: {to_rgb: true, channel_first: false}
    - ResizeImage: {resize_short: 256}
    - CropImage: {size: 224}
    - NormalizeImage: {scale: 1.0/255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], order: ''}

The formulas are those of `ppcls/data/preprocess/ops/`, release/2.6. Two things differ inside and not in the result:
pixels stay in the decoder's channel order while nothing looks at colours, and normalising is a table look-up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.imaging.augmentations import AUGMENTATIONS
from resnet50_pipeline.imaging.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NamedOperator,
    NormalizedOperator,
    Operator,
    PixelOperator,
)
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.geometry import CropImage, RandCropImage, RandFlipImage, ResizeImage
from resnet50_pipeline.imaging.normalize import NormalizeImage, ToCHWImage

Transform = Callable[[bytes, random.Random | None], NDArray[np.float32]]


class DecodeImage(Operator):
    """Bytes → pixels [height, width, 3]."""

    to_rgb: Literal[True] = True
    channel_first: Literal[False] = False


class TransformOp(NamedOperator):
    """One item of `transform_ops`: a mapping with one key, the operator's name."""

    known: ClassVar[Mapping[str, type[Operator]]] = {
        operator.__name__: operator
        for operator in (DecodeImage, ResizeImage, CropImage, RandCropImage, RandFlipImage, NormalizeImage, ToCHWImage)
    } | dict(AUGMENTATIONS)


def build_transform(transform_ops: Sequence[Mapping[str, Any] | TransformOp]) -> Transform:
    """Return the function that a list of operators describes: `(bytes, random numbers) -> float32 [3, size, size]`.

    The channels of the result are red, green, blue. `None` for the random numbers suits transforms that draw none.

    Raises:
        TrainingConfigError: an operator or argument is unknown, or the list does not run decode → changes of pixels →
            normalise → changes of normalised pixels.
    """
    try:
        operators = [TransformOp.model_validate(op).operator for op in transform_ops]
    except ValidationError as error:
        raise TrainingConfigError(f"transform_ops: {error}") from error
    if operators and isinstance(operators[-1], ToCHWImage):
        operators.pop()
    if len(operators) < 2 or not isinstance(operators[0], DecodeImage):
        raise TrainingConfigError("transform_ops must begin with DecodeImage and end with NormalizeImage")
    before, normalize, after = _split_at_normalize(operators[1:])
    is_rgb = any(operator.needs_rgb for operator in before)
    in_decoders_order = normalize.table if is_rgb else normalize.table[:, ::-1]
    table = np.ascontiguousarray(in_decoders_order).reshape(256, 1, 3)

    def transform(data: bytes, draw: random.Random | None = None) -> NDArray[np.float32]:
        pixels = decode_image(data)
        if is_rgb:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        for operator in before:
            pixels = operator.apply(pixels, draw)
        normalized: NDArray[np.float32] = cv2.LUT(np.ascontiguousarray(pixels), table)
        if not is_rgb:
            normalized = normalized[:, :, ::-1]
        for changing in after:
            normalized = changing.apply(normalized, draw)
        return np.ascontiguousarray(normalized.transpose(2, 0, 1))

    return transform


def _split_at_normalize(
    operators: Sequence[Operator],
) -> tuple[list[PixelOperator], NormalizeImage, list[NormalizedOperator]]:
    """Return what stands before NormalizeImage, itself, and what stands behind it."""
    place = next((at for at, operator in enumerate(operators) if isinstance(operator, NormalizeImage)), len(operators))
    before, after = operators[:place], operators[place + 1 :]
    pixel = [operator for operator in before if isinstance(operator, PixelOperator)]
    normalized = [operator for operator in after if isinstance(operator, NormalizedOperator)]
    if len(pixel) != len(before):
        wrong = next(type(operator).__name__ for operator in before if not isinstance(operator, PixelOperator))
        raise TrainingConfigError(f"transform_ops: {wrong} cannot stand between DecodeImage and NormalizeImage")
    if place == len(operators):
        raise TrainingConfigError(
            f"transform_ops must end with NormalizeImage, or with what changes normalised pixels behind it, "
            f"not with {type(operators[-1]).__name__}"
        )
    if len(normalized) != len(after):
        wrong = next(type(operator).__name__ for operator in after if not isinstance(operator, NormalizedOperator))
        raise TrainingConfigError(f"transform_ops: {wrong} cannot stand behind NormalizeImage")
    return pixel, NormalizeImage.model_validate(operators[place]), normalized


__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "CropImage",
    "DecodeImage",
    "NormalizeImage",
    "Operator",
    "RandCropImage",
    "RandFlipImage",
    "ResizeImage",
    "ToCHWImage",
    "Transform",
    "TransformOp",
    "build_transform",
]
