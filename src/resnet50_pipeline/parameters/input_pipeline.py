"""`training.train_transform`, `.eval_transform` and `.loader`: from image files to batches."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_serializer, model_validator

from resnet50_pipeline.imaging.augmentations import AugmentOp
from resnet50_pipeline.imaging.base import Interpolation, NormalizedOperator
from resnet50_pipeline.imaging.mixing import BatchTransformOp
from resnet50_pipeline.imaging.progressive import ProgressiveResize
from resnet50_pipeline.parameters.base import ParameterModel

Fraction = float


class TrainTransformParameters(ParameterModel):
    """`training.train_transform`: decode → RandCropImage → (flip) → augmentations → normalise → (erase) → CHW → mix."""

    size: int = Field(ge=8, description="Side of the square crop, in pixels.")
    scale: tuple[Fraction, Fraction] = Field(default=(0.08, 1.0), description="Range of crop area / image area.")
    ratio: tuple[float, float] = Field(default=(3 / 4, 4 / 3), description="Range of the crop's width / height.")
    use_log_aspect: bool = Field(
        default=False, description="Draw the ratio's logarithm evenly, as torchvision and timm do; PaddleClas does not."
    )
    interpolation: Interpolation = Field(default="bilinear", description="How a crop becomes `size` pixels.")
    backend: Literal["cv2", "pil"] = Field(
        default="cv2", description="What resizes: OpenCV, or Pillow, with antialias."
    )
    flip: bool = Field(default=True, description="Mirror left-right, half of the time.")
    augment_ops: tuple[AugmentOp, ...] = Field(
        default=(),
        description="What follows the flip, as PaddleClas writes it: `- TimmAutoAugment: {config_str: …}`. "
        "RandomErasing goes behind the normalisation.",
    )
    batch_transform_ops: tuple[BatchTransformOp, ...] = Field(
        default=(),
        max_length=1,
        description="What is done to a batch, as PaddleClas writes it: MixupOperator, CutmixOperator or OpSampler.",
    )
    progressive_resize: ProgressiveResize | None = Field(
        default=None, description="Crops that grow with the epochs, from `initial_size` to `size`."
    )

    @field_serializer("augment_ops")
    def _as_mappings(self, ops: tuple[AugmentOp, ...]) -> list[dict[str, Any]]:
        return [op.as_mapping() for op in ops]

    @model_validator(mode="after")
    def _erase_last(self) -> Self:
        places = [isinstance(op.operator, NormalizedOperator) for op in self.augment_ops]
        if places != sorted(places):
            raise ValueError("augment_ops: RandomErasing works on normalised pixels, so it comes last")
        return self

    @model_validator(mode="after")
    def _grow(self) -> Self:
        if self.progressive_resize is not None and self.progressive_resize.initial_size > self.size:
            raise ValueError(
                f"progressive_resize.initial_size {self.progressive_resize.initial_size} is above size {self.size}"
            )
        return self


class EvalTransformParameters(ParameterModel):
    """`training.eval_transform`: decode → short side → centre crop → normalise → CHW; evaluation and serving too."""

    resize_short: int = Field(ge=8, description="Short side after the resize, in pixels.")
    size: int = Field(ge=8, description="Side of the centre crop, in pixels.")
    interpolation: Interpolation = Field(default="bilinear", description="How the image is resized.")
    backend: Literal["cv2", "pil"] = Field(
        default="cv2", description="What resizes: OpenCV, or Pillow, with antialias."
    )

    @model_validator(mode="after")
    def _crop_from_inside(self) -> Self:
        if self.size > self.resize_short:
            raise ValueError(f"size {self.size} is larger than resize_short {self.resize_short}")
        if self.interpolation == "random":
            raise ValueError("interpolation: an evaluation draws nothing at random")
        return self


class LoaderParameters(ParameterModel):
    """`training.loader`."""

    num_workers: int = Field(default=4, ge=0, description="Loader processes of each rank; 0 loads in the rank itself.")
    drop_last: bool = Field(
        default=False, description="Leave out the last batch of an epoch where it would be smaller than the others."
    )
    num_repeats: int | None = Field(
        default=None,
        ge=2,
        description="Repeated augmentation: an image stands so often in an epoch, each time augmented anew.",
    )
    max_skipped_images: int = Field(
        default=0,
        ge=0,
        description="Train images that may be unreadable in an epoch, over all ranks: the next readable one of the "
        "list stands in, and all are counted. One more fails the run. An evaluation never leaves one out.",
    )
    decode: Literal["whole", "region"] = Field(
        default="whole",
        description="Of a train JPEG decode the whole, or the random crop's region only (the extra `region`); the "
        "pixels are the same.",
    )
    normalize_on_device: bool = Field(
        default=False,
        description="Send train batches to the device as uint8, a quarter of the bytes, and normalise them there; not "
        "done where RandomErasing works on normalised pixels.",
    )
    use_dali: bool = Field(default=False, description="Decode and crop train images on the GPU, with NVIDIA DALI.")
