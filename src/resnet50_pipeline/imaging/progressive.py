"""Increases the size of training crops during training (`native` engine only)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from resnet50_pipeline.imaging.base import Operator


class ProgressiveResize(Operator):
    """*native*: increases the size of training crops from `initial_size` to the size of RandCropImage.

    The size is `initial_size` up to `start_epoch` and the full size from `end_epoch` on. In between, it is interpolated
    linearly and rounded to a multiple of `divisor`. FFCV's ImageNet recipes use the same schedule
    (github.com/libffcv/ffcv-imagenet, train_imagenet.py, `resolution`). PaddleClas supports progressive crops only for
    EfficientNetV2.
    """

    initial_size: int = Field(ge=8, description="Height and width of the smallest crops, in pixels.")
    start_epoch: int = Field(ge=0, description="Last epoch with the smallest crops, 1-based.")
    end_epoch: int = Field(ge=1, description="First epoch with the largest crops, 1-based.")
    divisor: int = Field(default=32, ge=1, description="Round sizes to a multiple of this number of pixels.")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.end_epoch <= self.start_epoch:
            raise ValueError(f"end_epoch {self.end_epoch} must be greater than start_epoch {self.start_epoch}")
        return self

    def size_of(self, epoch: int, final_size: int) -> int:
        """Return the crop size in pixels for an epoch. Epochs start at 1."""
        if epoch <= self.start_epoch:
            return self.initial_size
        if epoch >= self.end_epoch:
            return final_size
        fraction = (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)
        size = self.initial_size + fraction * (final_size - self.initial_size)
        return round(size / self.divisor) * self.divisor
