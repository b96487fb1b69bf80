"""Train crops that grow with the epochs; *native*, PaddleClas has them for EfficientNetV2 alone."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from resnet50_pipeline.imaging.base import Operator


class ProgressiveResize(Operator):
    """*native*: train crops grow with the epochs, from `initial_size` to the size that RandCropImage says.

    As `resolution` of FFCV's ImageNet recipes (github.com/libffcv/ffcv-imagenet, train_imagenet.py): small up to
    `start_epoch`, whole from `end_epoch` on, and in between on a straight line, to the nearest multiple of `divisor`.
    """

    initial_size: int = Field(ge=8)
    start_epoch: int = Field(ge=0, description="The last epoch of the smallest crops, 1-based.")
    end_epoch: int = Field(ge=1, description="The first epoch of the largest crops, 1-based.")
    divisor: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _end_behind_the_start(self) -> Self:
        if self.end_epoch <= self.start_epoch:
            raise ValueError(f"end_epoch {self.end_epoch} must come after start_epoch {self.start_epoch}")
        return self

    def size_of(self, epoch: int, final_size: int) -> int:
        """Return the side of the crops of an epoch, 1-based."""
        if epoch <= self.start_epoch:
            return self.initial_size
        if epoch >= self.end_epoch:
            return final_size
        part = (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)
        size = self.initial_size + part * (final_size - self.initial_size)
        return round(size / self.divisor) * self.divisor
