"""PaddleClas' preprocessing operators, with the same names, arguments and (bit for bit) the same results.

An operator is written in YAML as a mapping with one key, and a list of them is a transform:

    - DecodeImage: {to_rgb: true, channel_first: false}
    - ResizeImage: {resize_short: 256}
    - CropImage: {size: 224}
    - NormalizeImage: {scale: 1.0/255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], order: ''}

The formulas are those of `ppcls/data/preprocess/ops/`, release/2.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

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
from resnet50_pipeline.imaging.geometry import CropImage, RandCropImage, RandFlipImage, ResizeImage
from resnet50_pipeline.imaging.normalize import NormalizeImage, ToCHWImage
from resnet50_pipeline.imaging.transform import Transform


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


def build_transform(
    transform_ops: Sequence[Mapping[str, Any] | TransformOp], *, decodes_region: bool = False
) -> Transform:
    """Return what a list of operators describes: `(bytes, random numbers) -> float32 [3, size, size]`.

    Args:
        transform_ops: as YAML holds them.
        decodes_region: of a JPEG decode no more than RandCropImage looks at, where it comes first.

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
    return Transform(*_split_at_normalize(operators[1:]), decodes_region=decodes_region)


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
