"""Builds transforms from operators with the same names, arguments and results as PaddleClas' operators.

In YAML, an operator is a mapping with one key, and a transform is a list of operators:

    - DecodeImage: {to_rgb: true, channel_first: false}
    - ResizeImage: {resize_short: 256}
    - CropImage: {size: 224}
    - NormalizeImage: {scale: 1.0/255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], order: ''}

The formulas come from `ppcls/data/preprocess/ops/`, release/2.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

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
    """Decodes an image file to pixels [height, width, 3]."""

    omitted_defaults: ClassVar[frozenset[str]] = frozenset({"tiff"})

    to_rgb: Literal[True] = True
    channel_first: Literal[False] = False
    tiff: bool = Field(
        default=False, description="*native*: whether to accept TIFF files. PaddleClas always accepts TIFF files."
    )


class TransformOp(NamedOperator):
    """One item of `transform_ops`: a mapping whose only key is the operator's name."""

    known: ClassVar[Mapping[str, type[Operator]]] = {
        operator.__name__: operator
        for operator in (DecodeImage, ResizeImage, CropImage, RandCropImage, RandFlipImage, NormalizeImage, ToCHWImage)
    } | dict(AUGMENTATIONS)


def build_transform(
    transform_ops: Sequence[Mapping[str, Any] | TransformOp], *, decodes_region: bool = False
) -> Transform:
    """Return the transform for a list of operators: `(bytes, rng) -> float32 [3, height, width]`.

    Args:
        transform_ops: the operators, in YAML form.
        decodes_region: whether to decode only the window of a JPEG that RandCropImage needs. This has an effect only if
            RandCropImage directly follows DecodeImage.

    Raises:
        TrainingConfigError: if an operator or argument is unknown, or the operators are in the wrong order. The correct
            order is DecodeImage, operators on pixels, NormalizeImage, operators on normalized pixels.
    """
    try:
        operators = [TransformOp.model_validate(op).operator for op in transform_ops]
    except ValidationError as error:
        raise TrainingConfigError(f"transform_ops: {error}") from error
    if operators and isinstance(operators[-1], ToCHWImage):
        operators.pop()
    if len(operators) < 2 or not isinstance(operators[0], DecodeImage):
        raise TrainingConfigError(
            "transform_ops must start with DecodeImage and contain NormalizeImage → add the missing operator"
        )
    return Transform(*_split_at_normalize(operators[1:]), decodes_region=decodes_region, tiff=operators[0].tiff)


def _split_at_normalize(
    operators: Sequence[Operator],
) -> tuple[list[PixelOperator], NormalizeImage, list[NormalizedOperator]]:
    """Return the operators before NormalizeImage, NormalizeImage, and the operators after it."""
    index = next((i for i, operator in enumerate(operators) if isinstance(operator, NormalizeImage)), len(operators))
    before, after = operators[:index], operators[index + 1 :]
    pixel = [operator for operator in before if isinstance(operator, PixelOperator)]
    normalized = [operator for operator in after if isinstance(operator, NormalizedOperator)]
    if len(pixel) != len(before):
        wrong = next(type(operator).__name__ for operator in before if not isinstance(operator, PixelOperator))
        raise TrainingConfigError(
            f"transform_ops: {wrong} is not allowed between DecodeImage and NormalizeImage → move the operator"
        )
    if index == len(operators):
        raise TrainingConfigError(
            f"transform_ops must contain NormalizeImage → add this operator after {type(operators[-1]).__name__}"
        )
    if len(normalized) != len(after):
        wrong = next(type(operator).__name__ for operator in after if not isinstance(operator, NormalizedOperator))
        raise TrainingConfigError(
            f"transform_ops: {wrong} is not allowed after NormalizeImage → move the operator before NormalizeImage"
        )
    return pixel, NormalizeImage.model_validate(operators[index]), normalized


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
