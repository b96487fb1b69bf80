"""How far packed images are from the images themselves, in the pixels that an evaluation sees."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.shard_set import Fidelity, ShardedSplit
from resnet50_pipeline.imagenet.shard_source import ShardedImages
from resnet50_pipeline.imagenet.shard_task import PackedImages
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.geometry import CropImage, ResizeImage

# Of the reference recipe's evaluation.
_RESIZE, _CROP = ResizeImage(resize_short=256), CropImage(size=224)
_SAMPLED_IMAGES = 256


def compare_pixels(folder: Path, split: ShardedSplit, images: PackedImages) -> Fidelity:
    """Compare what ResizeImage 256 and CropImage 224 make of packed images and of the images themselves.

    Args:
        folder: of the shards.
        split: what is packed.
        images: the images themselves, in the list's order; 256 of them, evenly spread, are looked at.

    Raises:
        DatasetError: an image cannot be read or decoded.
    """
    packed = ShardedImages(folder, split, images.paths)
    rows = np.unique(np.linspace(0, len(images) - 1, min(_SAMPLED_IMAGES, len(images))).astype(int)).tolist()
    found = [measure_psnr(evaluated_pixels(images.read(row)), evaluated_pixels(packed.read(row))) for row in rows]
    differing = [psnr for psnr in found if np.isfinite(psnr)]
    return Fidelity(
        images=len(found),
        identical=len(found) - len(differing),
        mean_psnr_db=float(np.mean(differing)) if differing else None,
        lowest_psnr_db=min(differing, default=None),
    )


def evaluated_pixels(data: bytes) -> NDArray[np.uint8]:
    """Return what the reference evaluation sees of an image: uint8 [224, 224, 3]."""
    return _CROP.apply(_RESIZE.apply(decode_image(data), None), None)


def measure_psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of 8-bit pixels, decibels: 10 log10(255² / mean squared error).

    Infinite for the same pixels.
    """
    return float("inf") if np.array_equal(one, other) else float(cv2.PSNR(one, other))
