"""Defines the base classes of the preprocessing operators. Their arguments are named as in PaddleClas."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.frozen_model import FrozenModel

Pixels = NDArray[np.uint8]
Interpolation = Literal["nearest", "bilinear", "area", "bicubic", "lanczos", "box", "hamming", "random"]

# ImageNet's mean color and standard deviation. PaddleClas and timm also use the mean color to fill the area that a
# shift or rotation leaves empty.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Operator(FrozenModel):
    """Arguments of one operator.

    Attributes:
        omitted_defaults: arguments that are omitted from YAML if they have their default value.
    """

    omitted_defaults: ClassVar[frozenset[str]] = frozenset()

    def as_arguments(self) -> dict[str, Any]:
        """Return the arguments in YAML form, including defaults other than `omitted_defaults`."""
        at_default = {
            name for name in self.omitted_defaults if getattr(self, name) == type(self).model_fields[name].default
        }
        return self.model_dump(mode="json", exclude=at_default)


class PixelOperator(Operator):
    """An operator that maps pixels to pixels, uint8 [height, width, 3].

    Attributes:
        needs_rgb: whether the channels must be in RGB order. If no operator in a transform needs RGB, the pixels keep
            the decoder's channel order, which does not change the result.
    """

    needs_rgb: ClassVar[bool] = False

    def apply(self, pixels: Pixels, rng: random.Random | None) -> Pixels:
        """Return the transformed pixels. Random operators get their random numbers from `rng`."""
        raise NotImplementedError


class NormalizedOperator(Operator):
    """An operator on normalized pixels, float32 [height, width, 3], channels red, green, blue."""

    def apply(self, pixels: NDArray[np.float32], rng: random.Random | None) -> NDArray[np.float32]:
        """Return the transformed pixels. The operator may modify `pixels` in place."""
        raise NotImplementedError


class NamedOperator(BaseModel):
    """An operator in YAML form: a mapping whose only key is the operator's name.

    Attributes:
        known: the supported operators, keyed by name.
    """

    model_config = ConfigDict(frozen=True)

    known: ClassVar[Mapping[str, type[Operator]]] = {}

    operator: Operator

    @model_validator(mode="before")
    @classmethod
    def _from_one_key_mapping(cls, value: Any) -> Any:
        if isinstance(value, NamedOperator):
            return {"operator": value.operator}
        if isinstance(value, Operator):
            return {"operator": value}
        if not isinstance(value, Mapping):
            raise ValueError(f"an operator must be a mapping with one key; found {value!r}")
        if set(value) == {"operator"}:
            return value
        if len(value) != 1:
            raise ValueError(f"an operator must be a mapping with one key; found {len(value)}: {sorted(value)}")
        ((name, arguments),) = value.items()
        if name not in cls.known:
            raise ValueError(f"operator {name} is not supported → use one of {', '.join(sorted(cls.known))}")
        return {"operator": cls.known[name].model_validate(arguments or {})}

    def as_mapping(self) -> dict[str, Any]:
        """Return the YAML form, such as `{"CropImage": {"size": 224}}`."""
        return {type(self.operator).__name__: self.operator.as_arguments()}


def require_rng(rng: random.Random | None, operator: Operator) -> random.Random:
    """Return `rng` if it is not None.

    Raises:
        TrainingConfigError: if `rng` is None, as in evaluation and serving.
    """
    if rng is None:
        raise TrainingConfigError(
            f"{type(operator).__name__} is random, but evaluation must be reproducible → remove the operator from the "
            "evaluation transform_ops"
        )
    return rng
