"""What every operator has in common: frozen arguments by PaddleClas' names, and random numbers that are handed in."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from resnet50_pipeline.exceptions import TrainingConfigError

Pixels = NDArray[np.uint8]
Interpolation = Literal["nearest", "bilinear", "area", "bicubic", "lanczos", "box", "hamming", "random"]

# ImageNet's mean as a colour, which PaddleClas and timm fill the outside of a picture with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Operator(BaseModel):
    """Frozen arguments of one operator; unknown ones are refused.

    Attributes:
        left_out: arguments that are written where they differ from their default only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    left_out: ClassVar[frozenset[str]] = frozenset()

    def as_arguments(self) -> dict[str, Any]:
        """Return the arguments as YAML holds them, those with a default value too."""
        at_default = {name for name in self.left_out if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude=at_default)


class PixelOperator(Operator):
    """An operator from pixels to pixels, uint8 [height, width, 3].

    Attributes:
        needs_rgb: the channels must be red, green, blue. Where no operator of a transform needs that, pixels stay as
            the decoder gave them, and the result is the same.
    """

    needs_rgb: ClassVar[bool] = False

    def apply(self, pixels: Pixels, draw: random.Random | None) -> Pixels:
        """Return the changed pixels; `draw` gives the random numbers of operators that need them."""
        raise NotImplementedError


class NormalizedOperator(Operator):
    """An operator on normalised pixels, float32 [height, width, 3], channels red, green, blue."""

    def apply(self, pixels: NDArray[np.float32], draw: random.Random | None) -> NDArray[np.float32]:
        """Return the changed pixels; the given ones may be written to."""
        raise NotImplementedError


class NamedOperator(BaseModel):
    """An operator as YAML holds it: a mapping with one key, the operator's name.

    Attributes:
        known: the operators that may stand here, by name.
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
            raise ValueError(f"an operator is a mapping with one key, not {value!r}")
        if set(value) == {"operator"}:
            return value
        if len(value) != 1:
            raise ValueError(f"an operator is a mapping with one key, here are {len(value)}: {sorted(value)}")
        ((name, arguments),) = value.items()
        if name not in cls.known:
            raise ValueError(f"operator {name} is not supported here; known: {', '.join(sorted(cls.known))}")
        return {"operator": cls.known[name].model_validate(arguments or {})}

    def as_mapping(self) -> dict[str, Any]:
        """Return the YAML form, `{"CropImage": {"size": 224}}`."""
        return {type(self.operator).__name__: self.operator.as_arguments()}


def require_draw(draw: random.Random | None, operator: Operator) -> random.Random:
    """Return the random numbers of an image.

    Raises:
        TrainingConfigError: there are none, as in evaluation and serving.
    """
    if draw is None:
        raise TrainingConfigError(f"{type(operator).__name__} draws random numbers and was given none")
    return draw
