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
        "original files, which give the same results. jpeg-256: JPEG files with a short side of 256 pixels. raw-256: "
        "uncompressed images of the same size, which need no decoding but three times the space. jpeg-256 and raw-256 "
        "change the pixels and therefore the results.",
    )
    jpeg_quality: int = Field(default=90, ge=1, le=100, description="JPEG quality for jpeg-256, 1 to 100.")
    interpolation: Literal["bilinear", "area", "bicubic", "lanczos"] = Field(
        default="bilinear",
        description="Interpolation for resizing to jpeg-256 or raw-256. Evaluation uses bilinear interpolation, so "
        "with bilinear raw-256 shards and resize_short 256, evaluation gives the same results as without shards.",
    )
    images_per_shard: int = Field(
        default=2000,
        ge=1,
        description="Maximum number of images per shard. Each shard contains images of one class, so ImageNet has one "
        "shard per class.",
    )
    workers: int = Field(default=0, ge=0, description="Number of processes that write shards. 0: one per core.")


class DataPreparationParameters(FiniteModel):
    """`data_preparation`: whether and how images are packed into shards."""

    shards: ShardParameters
