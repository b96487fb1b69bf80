"""Measures how much packed images differ from the originals after the evaluation transforms."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.shards.shard_set import Fidelity, ShardedSplit
from resnet50_pipeline.imagenet.shards.source import ShardedImages
from resnet50_pipeline.imagenet.shards.task import PackedImages
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.geometry import CropImage, ResizeImage

# The evaluation transforms of the reference recipe.
_RESIZE, _CROP = ResizeImage(resize_short=256), CropImage(size=224)
_SAMPLED_IMAGES = 256


def compare_pixels(folder: Path, split: ShardedSplit, images: PackedImages, *, tiff: bool = False) -> Fidelity:
    """Compare packed images with the originals after ResizeImage 256 and CropImage 224.

    Args:
        folder: shard set folder.
        split: packed images.
        images: original images, in list order. A sample of 256 evenly spaced images is compared.
        tiff: whether to accept TIFF files.

    Raises:
        DatasetError: if an image cannot be read or decoded.
    """
    packed = ShardedImages(folder, split, images.paths)
    rows = np.unique(np.linspace(0, len(images) - 1, min(_SAMPLED_IMAGES, len(images))).astype(int)).tolist()
    found = [
        measure_psnr(
            apply_eval_transforms(images.read(row), tiff=tiff), apply_eval_transforms(packed.read(row), tiff=tiff)
        )
        for row in rows
    ]
    differing = [psnr for psnr in found if np.isfinite(psnr)]
    return Fidelity(
        images=len(found),
        identical=len(found) - len(differing),
        mean_psnr_db=float(np.mean(differing)) if differing else None,
        lowest_psnr_db=min(differing, default=None),
    )


def apply_eval_transforms(data: bytes, *, tiff: bool = False) -> NDArray[np.uint8]:
    """Decode an image and apply the reference evaluation transforms. Return uint8 [224, 224, 3]."""
    return _CROP.apply(_RESIZE.apply(decode_image(data, tiff=tiff), None), None)


def measure_psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of 8-bit pixels in decibels, or infinity if the pixels are identical.

    The ratio is 10 log10(255² / mean squared error).
    """
    return float("inf") if np.array_equal(one, other) else float(cv2.PSNR(one, other))
