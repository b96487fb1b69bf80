"""`DataLoader` and `Infer`: from image files to batches."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
    model_validator,
)

from resnet50_pipeline.imaging.mixing import BatchTransformOp
from resnet50_pipeline.imaging.operators import RandCropImage, TransformOp
from resnet50_pipeline.imaging.progressive import ProgressiveResize
from resnet50_pipeline.training_config.base import Section


class DatasetConfig(Section):
    """`DataLoader.*.dataset`: a folder, a list file, and what to do with each image."""

    name: Literal["ImageNetDataset"] = "ImageNetDataset"
    image_root: str
    cls_label_path: str
    shards: str | None = Field(
        default=None, description="*native*: folder of a shard set that has the list's images; none: loose files."
    )
    transform_ops: tuple[TransformOp, ...]
    batch_transform_ops: tuple[BatchTransformOp, ...] = Field(default=(), max_length=1)
    progressive_resize: ProgressiveResize | None = None

    @field_serializer("transform_ops")
    def _as_mappings(self, ops: tuple[TransformOp, ...]) -> list[dict[str, Any]]:
        return [op.as_mapping() for op in ops]

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Upstream hands every key of a dataset on to a constructor.
        return {name: value for name, value in serialize(self).items() if value}

    @model_validator(mode="after")
    def _progress_of_a_crop(self) -> Self:
        if self.progressive_resize is not None and self.crop is None:
            raise ValueError("progressive_resize grows RandCropImage, of which transform_ops has none")
        return self

    @property
    def crop(self) -> RandCropImage | None:
        """The random crop among the operators, None for evaluation."""
        return next((op.operator for op in self.transform_ops if isinstance(op.operator, RandCropImage)), None)

    def transform_ops_of(self, epoch: int) -> tuple[TransformOp, ...]:
        """Return the operators of an epoch, 1-based: the same all along without `progressive_resize`."""
        if self.progressive_resize is None or self.crop is None:
            return self.transform_ops
        size = self.progressive_resize.size_of(epoch, self.crop.size)
        sized = TransformOp(operator=self.crop.model_copy(update={"size": size}))
        return tuple(sized if op.operator == self.crop else op for op in self.transform_ops)


class SamplerConfig(Section):
    """`DataLoader.*.sampler`."""

    name: Literal["DistributedBatchSampler", "RASampler"] = "DistributedBatchSampler"
    batch_size: int
    drop_last: bool = False
    shuffle: bool
    num_repeats: int | None = Field(
        default=None,
        ge=2,
        description="RASampler: how often an image stands in an epoch, each time augmented anew, while the epoch is as "
        "long as ever; so many fewer images are seen (arXiv:1902.05509).",
    )

    @model_validator(mode="after")
    def _repeat_in_the_sampler_of_that(self) -> Self:
        if (self.name == "RASampler") != (self.num_repeats is not None):
            raise ValueError("num_repeats is RASampler's, which needs it")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class LoaderConfig(Section):
    """`DataLoader.*.loader`."""

    num_workers: int
    use_shared_memory: bool = True
    max_skipped_images: int = Field(
        default=0, ge=0, description="*native*: images that may be unreadable in an epoch, over all ranks."
    )
    decode: Literal["whole", "region"] = Field(
        default="whole", description="*native*: what is decoded of a JPEG that is cropped at random."
    )
    normalize_on_device: bool = Field(
        default=False, description="*native*: batches go to the device as uint8 and become float32 there."
    )


class SplitConfig(Section):
    """`DataLoader.Train` or `DataLoader.Eval`."""

    dataset: DatasetConfig
    sampler: SamplerConfig
    loader: LoaderConfig


class DataLoaderConfig(Section):
    """`DataLoader`."""

    Train: SplitConfig
    Eval: SplitConfig

    @model_validator(mode="after")
    def _evaluate_every_image_as_it_is(self) -> Self:
        dataset = self.Eval.dataset
        if dataset.batch_transform_ops or dataset.crop is not None or self.Eval.sampler.name == "RASampler":
            raise ValueError("Eval: an evaluation neither mixes, repeats nor crops images at random")
        if self.Eval.loader.max_skipped_images or self.Eval.sampler.drop_last:
            raise ValueError("Eval: an evaluation has every image; max_skipped_images is 0 and drop_last false there")
        if self.Eval.loader.normalize_on_device:
            raise ValueError("Eval: an evaluation sees the numbers that serving sees; normalize_on_device is for Train")
        return self


class PostProcessConfig(Section):
    """`Infer.PostProcess`."""

    name: Literal["Topk"] = "Topk"
    topk: int
    class_id_map_file: None = None


class InferConfig(Section):
    """`Infer`: what the exported model is fed with."""

    infer_imgs: str
    batch_size: int
    transforms: tuple[TransformOp, ...]
    PostProcess: PostProcessConfig

    @field_serializer("transforms")
    def _as_mappings(self, ops: tuple[TransformOp, ...]) -> list[dict[str, Any]]:
        return [op.as_mapping() for op in ops]
