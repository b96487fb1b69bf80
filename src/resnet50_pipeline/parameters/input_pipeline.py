"""`training.train_transform`, `.eval_transform` and `.loader`: from image files to batches."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from resnet50_pipeline.parameters.base import ParameterModel

Fraction = float


class TrainTransformParameters(ParameterModel):
    """`training.train_transform`: decode → RandCropImage → (flip) → normalise → CHW."""

    size: int = Field(ge=8, description="Side of the square crop, in pixels.")
    scale: tuple[Fraction, Fraction] = Field(default=(0.08, 1.0), description="Range of crop area / image area.")
    ratio: tuple[float, float] = Field(default=(3 / 4, 4 / 3), description="Range of the crop's width / height.")
    flip: bool = Field(default=True, description="Mirror left-right, half of the time.")


class EvalTransformParameters(ParameterModel):
    """`training.eval_transform`: decode → short side → centre crop → normalise → CHW; evaluation and serving too."""

    resize_short: int = Field(ge=8, description="Short side after the resize, in pixels.")
    size: int = Field(ge=8, description="Side of the centre crop, in pixels.")

    @model_validator(mode="after")
    def _crop_from_inside(self) -> Self:
        if self.size > self.resize_short:
            raise ValueError(f"size {self.size} is larger than resize_short {self.resize_short}")
        return self


class LoaderParameters(ParameterModel):
    """`training.loader`."""

    num_workers: int = Field(default=4, ge=0, description="Loader processes of each rank; 0 loads in the rank itself.")
