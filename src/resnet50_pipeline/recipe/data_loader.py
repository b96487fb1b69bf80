"""The `DataLoader` and `Infer` sections of the YAML file, which describe how image files become batches."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
    model_validator,
)

from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.imaging.mixing import BatchTransformOp
from resnet50_pipeline.imaging.operators import RandCropImage, TransformOp
from resnet50_pipeline.imaging.progressive import ProgressiveResize
from resnet50_pipeline.recipe.loaders import LoaderConfig, SamplerConfig


class DatasetConfig(FiniteModel):
    """`DataLoader.*.dataset`: a folder, a list file and the operators to apply to each image."""

    name: Literal["ImageNetDataset"] = "ImageNetDataset"
    image_root: str = Field(description="Folder that the paths in the list are relative to.")
    cls_label_path: str = Field(description="List file, one `path label` pair per line.")
    delimiter: str | None = Field(
        default=None, description="Character between path and label. A tab allows spaces in paths. null: a space."
    )
    shards: str | None = Field(
        default=None, description="*native*: folder of the shard set with the images. null: read loose files."
    )
    transform_ops: tuple[TransformOp, ...] = Field(description="Operators to apply to each image.")
    batch_transform_ops: tuple[BatchTransformOp, ...] = Field(
        default=(), max_length=1, description="Operator to apply to each batch."
    )
    progressive_resize: ProgressiveResize | None = Field(
        default=None, description="How the crop size grows during training."
    )

    @field_serializer("transform_ops")
    def _as_mappings(self, ops: tuple[TransformOp, ...]) -> list[dict[str, Any]]:
        return [op.as_mapping() for op in ops]

    @model_serializer(mode="wrap")
    def _without_unset_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Upstream passes every key to the dataset's constructor, so unset keys must be absent.
        return {name: value for name, value in serialize(self).items() if value}

    @model_validator(mode="after")
    def _require_crop_that_grows(self) -> Self:
        if self.progressive_resize is not None and self.crop is None:
            raise ValueError("progressive_resize needs RandCropImage in transform_ops; add it, or remove the key")
        return self

    @property
    def crop(self) -> RandCropImage | None:
        """The `RandCropImage` operator, or None if there is no such operator, as in evaluation."""
        return next((op.operator for op in self.transform_ops if isinstance(op.operator, RandCropImage)), None)

    def transform_ops_of(self, epoch: int) -> tuple[TransformOp, ...]:
        """Return the operators for an epoch (1-based), which depend on the epoch only with `progressive_resize`."""
        if self.progressive_resize is None or self.crop is None:
            return self.transform_ops
        size = self.progressive_resize.size_of(epoch, self.crop.size)
        sized = TransformOp(operator=self.crop.model_copy(update={"size": size}))
        return tuple(sized if op.operator == self.crop else op for op in self.transform_ops)


class SplitConfig(FiniteModel):
    """The `DataLoader.Train` or `DataLoader.Eval` section."""

    dataset: DatasetConfig
    sampler: SamplerConfig
    loader: LoaderConfig


class DataLoaderConfig(FiniteModel):
    """The `DataLoader` section."""

    Train: SplitConfig
    Eval: SplitConfig

    @model_validator(mode="after")
    def _require_deterministic_evaluation(self) -> Self:
        dataset = self.Eval.dataset
        if dataset.batch_transform_ops or dataset.crop is not None or self.Eval.sampler.name == "RASampler":
            raise ValueError(
                "Eval: evaluation cannot mix, repeat or randomly crop images; remove batch_transform_ops, RASampler "
                "and RandCropImage"
            )
        if self.Eval.loader.max_skipped_images or self.Eval.sampler.drop_last or self.Eval.sampler.images_per_class:
            raise ValueError(
                "Eval: evaluation must read every image once; set max_skipped_images: 0, drop_last: false and "
                "images_per_class: null"
            )
        if self.Eval.loader.normalize_on_device:
            raise ValueError(
                "Eval: evaluation must use the same pixel values as serving; set normalize_on_device only in Train"
            )
        return self


class PostProcessConfig(FiniteModel):
    """The `Infer.PostProcess` section."""

    name: Literal["Topk"] = "Topk"
    topk: int
    class_id_map_file: None = None


class InferConfig(FiniteModel):
    """The `Infer` section: preprocessing and output of the exported model."""

    infer_imgs: str
    batch_size: int
    transforms: tuple[TransformOp, ...]
    PostProcess: PostProcessConfig

    @field_serializer("transforms")
    def _as_mappings(self, ops: tuple[TransformOp, ...]) -> list[dict[str, Any]]:
        return [op.as_mapping() for op in ops]
