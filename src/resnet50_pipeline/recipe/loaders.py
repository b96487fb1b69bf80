"""Settings for loading batches: `training.loader`, and the `sampler` and `loader` sections of the YAML file."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.recipe.yaml_form import in_order, without_none


class SamplerOptions(FiniteModel):
    """Options for the training sampler."""

    drop_last: bool = Field(
        default=False, description="Drop the last batch of an epoch if it is smaller than the other batches."
    )
    num_repeats: int | None = Field(
        default=None,
        ge=2,
        description="Repeated augmentation (arXiv:1902.05509): number of differently augmented copies of an image per "
        "epoch. The length of an epoch stays the same, so an epoch contains fewer distinct images.",
    )
    images_per_class: int | None = Field(
        default=None,
        ge=1,
        description="*native*: number of images per class and epoch (class-balanced sampling). If a class has fewer "
        "images, they are repeated with different augmentation. If a class has more images, the next epoch continues "
        "with the rest. null: an epoch follows the train list.",
    )

    @model_validator(mode="after")
    def _require_one_kind_of_repetition(self) -> Self:
        if self.num_repeats is not None and self.images_per_class is not None:
            raise ValueError(
                f"num_repeats is {self.num_repeats} and images_per_class is {self.images_per_class}, but only one of "
                "the two can be used; set the other to null"
            )
        return self


class WorkerOptions(FiniteModel):
    """Options for the data loader workers."""

    num_workers: int = Field(
        default=4,
        ge=0,
        description="Number of data loader worker processes per rank. 0: the rank loads the images itself.",
    )
    max_skipped_images: int = Field(
        default=0,
        ge=0,
        description="*native*: maximum number of unreadable training images per epoch, for all ranks together. Each of "
        "these images is counted and replaced with the next readable image in the list. If there are more, the run "
        "fails. Evaluation never skips images.",
    )
    decode: Literal["whole", "region"] = Field(
        default="whole",
        description="*native*: how much of a training JPEG to decode. whole: the full image. region: only the random "
        "crop (extra `region`). Both give the same pixels.",
    )
    normalize_on_device: bool = Field(
        default=False,
        description="*native*: copy training batches to the device as uint8 and normalize them there. Copying uint8 "
        "takes a quarter of the bytes. Has no effect with RandomErasing, which works on normalized pixels.",
    )


class Loader(WorkerOptions, SamplerOptions):
    """Settings for loading training batches (`training.loader`)."""

    use_dali: bool = Field(
        default=False, description="Whether NVIDIA DALI decodes and crops training images on the GPU."
    )


class LoaderConfig(WorkerOptions):
    """The `DataLoader.*.loader` section of the YAML file."""

    use_shared_memory: bool = True

    @model_serializer(mode="wrap")
    def _in_order_of_paddleclas(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return in_order(serialize(self), "num_workers", "use_shared_memory")


class SamplerConfig(SamplerOptions):
    """The `DataLoader.*.sampler` section of the YAML file."""

    name: Literal["DistributedBatchSampler", "RASampler"] = "DistributedBatchSampler"
    batch_size: int = Field(description="Images per batch on each rank.")
    shuffle: bool = Field(description="Whether to shuffle the images in each epoch.")

    @model_validator(mode="after")
    def _require_matching_sampler(self) -> Self:
        if (self.name == "RASampler") != (self.num_repeats is not None):
            raise ValueError(
                f"name is {self.name} and num_repeats is {self.num_repeats}; set num_repeats only for RASampler"
            )
        return self

    @model_serializer(mode="wrap")
    def _in_order_of_paddleclas(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = in_order(serialize(self), "name", "batch_size", "drop_last", "shuffle")
        return without_none(values, ("num_repeats", "images_per_class"))
