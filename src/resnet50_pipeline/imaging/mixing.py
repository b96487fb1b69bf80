"""Mixes the images and labels in a batch with PaddleClas' Mixup and CutMix operators.

    batch_transform_ops:
    - OpSampler:
        MixupOperator: {alpha: 0.2, prob: 0.5}
        CutmixOperator: {alpha: 1.0, prob: 0.5}

The formulas come from `ppcls/data/preprocess/batch_ops/batch_operators.py`, release/2.6. Upstream mixes one-hot label
vectors. Here, a batch contains the label of each image, the label of the image that it was mixed with (the partner),
and the weight of the image's own label (the share).
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
    """Describes how to mix a batch of N images.

    Attributes:
        partner: int64 [N], index of the image that each image is mixed with.
        share: weight of each image and its label, 0..1. The partner's weight is 1 - share.
        window: top, bottom, left and right of the window to copy from the partner (CutMix); None blends entire images
            (Mixup).
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
    """Blends every image with another image in the batch (arXiv:1710.09412)."""

    alpha: float = Field(default=1.0, gt=0, description="Parameter of the share's distribution, Beta(alpha, alpha).")

    def plan(self, images: int, side: int, rng: np.random.Generator) -> MixPlan:
        """Return the plan for `images` square images with sides of `side` pixels."""
        partner = rng.permutation(images)
        return MixPlan(partner, float(rng.beta(self.alpha, self.alpha)))


class Cutmix(Operator):
    """Replaces a window of every image with the same window of another image in the batch (arXiv:1905.04899)."""

    alpha: float = Field(default=0.2, gt=0, description="Parameter of the share's distribution, Beta(alpha, alpha).")

    def plan(self, images: int, side: int, rng: np.random.Generator) -> MixPlan:
        """Return the plan for `images` square images with sides of `side` pixels.

        The share is the fraction of the area outside the window.
        """
        partner = rng.permutation(images)
        half = int(side * np.sqrt(1.0 - rng.beta(self.alpha, self.alpha))) // 2
        row, column = int(rng.integers(side)), int(rng.integers(side))
        top, bottom = max(row - half, 0), min(row + half, side)
        left, right = max(column - half, 0), min(column + half, side)
        return MixPlan(partner, 1 - (bottom - top) * (right - left) / side**2, (top, bottom, left, right))


class SampledMixup(Mixup):
    """Mixup as an option of `OpSampler`."""

    prob: float = Field(ge=0, le=1, description="Probability of applying this operator to a batch.")


class SampledCutmix(Cutmix):
    """CutMix as an option of `OpSampler`."""

    prob: float = Field(ge=0, le=1, description="Probability of applying this operator to a batch.")


class _OmitsUnsetArguments(Operator):
    """An operator that omits unset arguments from YAML."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class SampledOperators(_OmitsUnsetArguments):
    """Applies Mixup, CutMix or neither to each batch, according to their probabilities."""

    MixupOperator: SampledMixup | None = None
    CutmixOperator: SampledCutmix | None = None

    @model_validator(mode="after")
    def _check_probabilities(self) -> Self:
        total = sum(operator.prob for operator in self._given)
        if not self._given or total > 1 + _ROUNDING:
            raise ValueError(
                f"OpSampler needs MixupOperator, CutmixOperator or both, with probabilities that sum to at most 1; "
                f"found {len(self._given)} with a sum of {total:g}"
            )
        return self

    @property
    def _given(self) -> list[SampledMixup | SampledCutmix]:
        return [operator for operator in (self.MixupOperator, self.CutmixOperator) if operator is not None]

    def plan(self, images: int, side: int, rng: np.random.Generator) -> MixPlan:
        """Return the plan for `images` square images with sides of `side` pixels. It may leave the images unchanged."""
        drawn = bisect(list(accumulate(operator.prob for operator in self._given)), float(rng.random()))
        if drawn == len(self._given):
            return MixPlan(np.arange(images), 1.0, (0, 0, 0, 0))
        return self._given[drawn].plan(images, side, rng)


class BatchTransformOp(_OmitsUnsetArguments):
    """The only item of `batch_transform_ops`, with exactly one operator.

    PaddleClas accepts several operators, but would mix every batch once with each of these operators.
    """

    MixupOperator: Mixup | None = None
    CutmixOperator: Cutmix | None = None
    OpSampler: SampledOperators | None = None

    @model_validator(mode="after")
    def _require_one_operator(self) -> Self:
        if len(self._given) != 1:
            raise ValueError(
                f"an item of batch_transform_ops needs exactly one of MixupOperator, CutmixOperator and OpSampler; "
                f"found {len(self._given)}"
            )
        return self

    @property
    def _given(self) -> list[Mixup | Cutmix | SampledOperators]:
        operators = (self.MixupOperator, self.CutmixOperator, self.OpSampler)
        return [operator for operator in operators if operator is not None]

    def plan(self, images: int, side: int, rng: np.random.Generator) -> MixPlan:
        """Return the plan for `images` square images with sides of `side` pixels, using only `rng`."""
        return self._given[0].plan(images, side, rng)
