"""`DataLoader` and `Infer`: from image files to batches."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_serializer

from resnet50_pipeline.imaging.operators import TransformOp
from resnet50_pipeline.training_config.base import Section


class DatasetConfig(Section):
    """`DataLoader.*.dataset`: a folder, a list file, and what to do with each image."""

    name: Literal["ImageNetDataset"] = "ImageNetDataset"
    image_root: str
    cls_label_path: str
    transform_ops: tuple[TransformOp, ...]

    @field_serializer("transform_ops")
    def _as_mappings(self, ops: tuple[TransformOp, ...]) -> list[dict[str, Any]]:
        return [op.as_mapping() for op in ops]


class SamplerConfig(Section):
    """`DataLoader.*.sampler`."""

    name: Literal["DistributedBatchSampler"] = "DistributedBatchSampler"
    batch_size: int
    drop_last: bool = False
    shuffle: bool


class LoaderConfig(Section):
    """`DataLoader.*.loader`."""

    num_workers: int
    use_shared_memory: bool = True


class SplitConfig(Section):
    """`DataLoader.Train` or `DataLoader.Eval`."""

    dataset: DatasetConfig
    sampler: SamplerConfig
    loader: LoaderConfig


class DataLoaderConfig(Section):
    """`DataLoader`."""

    Train: SplitConfig
    Eval: SplitConfig


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
