"""`data_preparation`: what the lists' images are packed into, if into anything."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from resnet50_pipeline.parameters.base import ParameterModel


class ShardParameters(ParameterModel):
    """`data_preparation.shards`: a few tar files with an index in the place of a million loose images."""

    mode: Literal["original", "jpeg-256", "raw-256"] | None = Field(
        default=None,
        description="null: none, training and evaluation read loose files; original: the images' own bytes, so nothing "
        "changes but the speed; jpeg-256: JPEGs whose short side has 256 pixels; raw-256: the pixels of such, which "
        "need no decoding and take three times the space. The latter two are other pixels than the images'.",
    )
    jpeg_quality: int = Field(default=90, ge=1, le=100, description="Of jpeg-256.")
    interpolation: Literal["bilinear", "area", "bicubic", "lanczos"] = Field(
        default="bilinear",
        description="How jpeg-256 and raw-256 scale an image; bilinear is the evaluation's own, so that raw-256 "
        "changes nothing of what an evaluation with resize_short 256 sees.",
    )
    images_per_shard: int = Field(
        default=2000, ge=1, description="At most; a shard has images of one class, so ImageNet has a shard a class."
    )
    workers: int = Field(default=0, ge=0, description="Processes that pack; 0 means one a core.")
    output_dir: Path = Field(description="Folder of the shards.")


class DataPreparationParameters(ParameterModel):
    """`data_preparation`."""

    shards: ShardParameters
