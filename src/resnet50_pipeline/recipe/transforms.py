"""Image transforms as parameters: `training.train_transform` and `training.eval_transform`.

In the YAML file, each transform is a list of operators (see `resnet50_pipeline.paddleclas.config`). This module does
not import OpenCV, so that the parameters can be checked without it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_serializer, model_validator

from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.imaging.augmentations import AugmentOp
from resnet50_pipeline.imaging.base import Interpolation, NormalizedOperator
from resnet50_pipeline.imaging.mixing import BatchTransformOp
from resnet50_pipeline.imaging.progressive import ProgressiveResize

Backend = Literal["cv2", "pil"]


def _require_square(size: object) -> object:
    if isinstance(size, list | tuple):
        raise ValueError(
            f"size is {list(size)}, but crops are square; set it to a single side length in pixels (the images can "
            "have any shape)"
        )
    return size


Side = Annotated[int, BeforeValidator(_require_square), Field(ge=8)]


class TrainTransform(FiniteModel):
    """Transform for training: decode → RandCropImage → (flip) → augment → normalize → (erase) → CHW → mix."""

    size: Side = Field(description="Side of the square crop, in pixels.")
    scale: tuple[float, float] = Field(
        default=(0.08, 1.0), description="Range of the crop's area, as a fraction of the image area."
    )
    ratio: tuple[float, float] = Field(
        default=(3 / 4, 4 / 3), description="Range of the crop's aspect ratio, width / height."
    )
    use_log_aspect: bool = Field(
        default=False,
        description="Whether to sample the logarithm of the ratio uniformly, as torchvision and timm do, instead of "
        "the ratio itself, as PaddleClas does.",
    )
    interpolation: Interpolation = Field(default="bilinear", description="Interpolation for resizing a crop to `size`.")
    backend: Backend = Field(default="cv2", description="Library for resizing: OpenCV, or Pillow with antialiasing.")
    flip: bool = Field(default=True, description="Whether to flip images horizontally with probability 0.5.")
    augment_ops: tuple[AugmentOp, ...] = Field(
        default=(),
        description="Operators to apply after the flip, in PaddleClas' notation: `- TimmAutoAugment: {config_str: …}`. "
        "RandomErasing is applied after normalization.",
    )
    batch_transform_ops: tuple[BatchTransformOp, ...] = Field(
        default=(),
        max_length=1,
        description="Operator to apply to each batch, in PaddleClas' notation: MixupOperator, CutmixOperator or "
        "OpSampler.",
    )
    progressive_resize: ProgressiveResize | None = Field(
        default=None, description="How to increase the crop size during training, up to `size`."
    )

    @field_serializer("augment_ops")
    def _as_mappings(self, ops: tuple[AugmentOp, ...]) -> list[dict[str, Any]]:
        return [op.as_mapping() for op in ops]

    @model_validator(mode="after")
    def _require_erasing_last(self) -> Self:
        places = [isinstance(op.operator, NormalizedOperator) for op in self.augment_ops]
        if places != sorted(places):
            names = [type(op.operator).__name__ for op in self.augment_ops]
            raise ValueError(
                f"augment_ops are {', '.join(names)}, but RandomErasing must be last, because it works on normalized "
                f"pixels"
            )
        return self

    @model_validator(mode="after")
    def _require_growth(self) -> Self:
        if self.progressive_resize is not None and self.progressive_resize.initial_size > self.size:
            raise ValueError(
                f"progressive_resize.initial_size {self.progressive_resize.initial_size} is greater than size "
                f"{self.size}; lower initial_size"
            )
        return self


class EvalTransform(FiniteModel):
    """Transform for evaluation and serving: decode → resize the short side → center crop → normalize → CHW."""

    resize_short: int = Field(ge=8, description="Short side after the resize, in pixels.")
    size: Side = Field(description="Side of the center crop, in pixels.")
    interpolation: Interpolation = Field(default="bilinear", description="Interpolation for resizing the image.")
    backend: Backend = Field(default="cv2", description="Library for resizing: OpenCV, or Pillow with antialiasing.")

    @model_validator(mode="after")
    def _require_deterministic_crop(self) -> Self:
        if self.size > self.resize_short:
            raise ValueError(f"size {self.size} is greater than resize_short {self.resize_short}; lower size")
        if self.interpolation == "random":
            raise ValueError("random interpolation is supported only in training; set interpolation to bilinear")
        return self
