"""PaddleClas' operators on whole batches: every image is mixed with another one of its batch, and so is its label.

    batch_transform_ops:
    - OpSampler:
        MixupOperator: {alpha: 0.2, prob: 0.5}
        CutmixOperator: {alpha: 1.0, prob: 0.5}

The formulas are those of `ppcls/data/preprocess/batch_ops/batch_operators.py`, release/2.6. Upstream puts mixed one-hot
vectors in the labels' place; here the second label and the first one's share stand beside them.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from resnet50_pipeline.imaging.base import Operator

_ROUNDING = 1e-9


@dataclass(frozen=True)
class MixPlan:
    """How a batch of N images is mixed.

    Attributes:
        partner: int64 [N], the position of the image that each is mixed with.
        share: in 0..1, what is left of each image, and of its label's weight.
        window: top, bottom, left, right of what is taken from the partner (cutmix); None for a blend (mixup).
    """

    partner: NDArray[np.int64]
    share: float
    window: tuple[int, int, int, int] | None = None

    def mix(self, images: NDArray[np.float32]) -> None:
        """Mix images [N, 3, height, width] in place."""
        if self.window is None:
            other = images[self.partner]
            other *= np.float32(1 - self.share)
            images *= np.float32(self.share)
            images += other
        else:
            top, bottom, left, right = self.window
            images[:, :, top:bottom, left:right] = images[self.partner, :, top:bottom, left:right]


class Mixup(Operator):
    """Every image is blended with another one (arXiv:1710.09412)."""

    alpha: float = Field(default=1.0, gt=0, description="The share is drawn from Beta(alpha, alpha).")

    def plan(self, images: int, side: int, draw: np.random.Generator) -> MixPlan:
        """Return the plan for a batch of so many square images."""
        partner = draw.permutation(images)
        return MixPlan(partner, float(draw.beta(self.alpha, self.alpha)))


class Cutmix(Operator):
    """A rectangle of every image is taken from another one (arXiv:1905.04899)."""

    alpha: float = Field(default=0.2, gt=0, description="The area's share is drawn from Beta(alpha, alpha).")

    def plan(self, images: int, side: int, draw: np.random.Generator) -> MixPlan:
        """Return the plan for a batch of so many square images; the share is of the area that is left."""
        partner = draw.permutation(images)
        half = int(side * np.sqrt(1.0 - draw.beta(self.alpha, self.alpha))) // 2
        row, column = int(draw.integers(side)), int(draw.integers(side))
        top, bottom = max(row - half, 0), min(row + half, side)
        left, right = max(column - half, 0), min(column + half, side)
        return MixPlan(partner, 1 - (bottom - top) * (right - left) / side**2, (top, bottom, left, right))


class SampledMixup(Mixup):
    """An item of `OpSampler`."""

    prob: float = Field(ge=0, le=1, description="How often this one is taken.")


class SampledCutmix(Cutmix):
    """An item of `OpSampler`."""

    prob: float = Field(ge=0, le=1, description="How often this one is taken.")


class _WrittenWhereGiven(Operator):
    """Arguments of which only those that have a value are written."""

    @model_serializer(mode="wrap")
    def _without_the_others(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class SampledOperators(_WrittenWhereGiven):
    """One operator a batch, or none, by their probabilities."""

    MixupOperator: SampledMixup | None = None
    CutmixOperator: SampledCutmix | None = None

    @model_validator(mode="after")
    def _no_more_than_always(self) -> Self:
        total = sum(operator.prob for operator in self._given)
        if not self._given or total > 1 + _ROUNDING:
            raise ValueError(
                f"OpSampler takes MixupOperator and CutmixOperator with probabilities of at most 1 together; "
                f"{len(self._given)} with {total:g} are given"
            )
        return self

    @property
    def _given(self) -> list[SampledMixup | SampledCutmix]:
        return [operator for operator in (self.MixupOperator, self.CutmixOperator) if operator is not None]

    def plan(self, images: int, side: int, draw: np.random.Generator) -> MixPlan:
        """Return the plan for a batch of so many square images; each keeps all of itself where none is drawn."""
        taken = bisect(list(accumulate(operator.prob for operator in self._given)), float(draw.random()))
        if taken == len(self._given):
            return MixPlan(np.arange(images), 1.0, (0, 0, 0, 0))
        return self._given[taken].plan(images, side, draw)


class BatchTransformOp(_WrittenWhereGiven):
    """The item of `batch_transform_ops`: exactly one operator. Of several, upstream mixes what is mixed already."""

    MixupOperator: Mixup | None = None
    CutmixOperator: Cutmix | None = None
    OpSampler: SampledOperators | None = None

    @model_validator(mode="after")
    def _hold_one(self) -> Self:
        if len(self._given) != 1:
            raise ValueError(
                f"an item of batch_transform_ops is one of MixupOperator, CutmixOperator, OpSampler; "
                f"{len(self._given)} are given"
            )
        return self

    @property
    def _given(self) -> list[Mixup | Cutmix | SampledOperators]:
        operators = (self.MixupOperator, self.CutmixOperator, self.OpSampler)
        return [operator for operator in operators if operator is not None]

    def plan(self, images: int, side: int, draw: np.random.Generator) -> MixPlan:
        """Return the plan for a batch of so many square images; everything random is drawn from `draw`."""
        return self._given[0].plan(images, side, draw)
