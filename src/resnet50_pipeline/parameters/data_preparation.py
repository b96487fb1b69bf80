"""Defines `data_preparation`: whether and how images are packed into shards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from resnet50_pipeline.frozen_model import FiniteModel


class ShardParameters(FiniteModel):
    """`data_preparation.shards`: how images are packed into a few tar files with an index."""

    mode: Literal["original", "jpeg-256", "raw-256"] | None = Field(
        default=None,
        description="Content of the shards. null: no shards; training and evaluation read loose files. original: the "
        "original files, so results do not change. jpeg-256: JPEG files with a short side of 256 pixels. raw-256: "
        "uncompressed images of the same size, which take up three times the space but do not have to be decoded. "
        "jpeg-256 and raw-256 change the pixels, so the results differ.",
    )
    jpeg_quality: int = Field(default=90, ge=1, le=100, description="JPEG quality for jpeg-256, 1 to 100.")
    interpolation: Literal["bilinear", "area", "bicubic", "lanczos"] = Field(
        default="bilinear",
        description="Interpolation for resizing to jpeg-256 or raw-256. Evaluation resizes with bilinear "
        "interpolation. With bilinear raw-256 shards and resize_short 256, evaluation therefore produces the same "
        "results as without shards.",
    )
    images_per_shard: int = Field(
        default=2000,
        ge=1,
        description="Maximum number of images in a shard. A shard contains images of one class, so ImageNet has one "
        "shard per class.",
    )
    workers: int = Field(default=0, ge=0, description="Number of processes that write shards. 0: one per core.")


class DataPreparationParameters(FiniteModel):
    """`data_preparation`: whether and how images are packed into shards."""

    shards: ShardParameters
