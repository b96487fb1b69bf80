"""Encodes one image for a shard: unchanged, as a smaller JPEG, or as raw pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.shards.shard_set import SHORT_SIDE, Packing, ShardMode
from resnet50_pipeline.imaging.bitmap import encode_bitmap
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.geometry import ResizeImage

_SUFFIXES: dict[ShardMode, str] = {"original": "", "jpeg-256": "", "raw-256": ".bmp"}


def name_shard_member(path: str, packing: Packing) -> str:
    """Return the name of a shard member: the path of the image in the list, with the suffix of its new format."""
    return path + _SUFFIXES[packing.mode]


def pack_image(data: bytes, packing: Packing, name: str = "image", *, tiff: bool = False) -> bytes:
    """Encode an image in the format that `packing` defines.

    Packed images have no EXIF orientation, because `decode_image` applies it. An image whose short side is at most
    `SHORT_SIDE` pixels keeps its size, because enlarging the image would add bytes but no detail. The `jpeg-256` mode
    stores the original bytes of such an image, including any EXIF orientation, which the reader then applies.

    Raises:
        ImageDecodeError: if the image cannot be decoded.
    """
    if packing.mode == "original":
        return data
    try:
        pixels = decode_image(data, tiff=tiff)
    except ImageDecodeError as error:
        raise error.named(name) from error
    is_small = min(pixels.shape[:2]) <= SHORT_SIDE
    if not is_small:
        pixels = ResizeImage(resize_short=SHORT_SIDE, interpolation=packing.interpolation).apply(pixels, None)
    if packing.mode == "raw-256":
        return encode_bitmap(pixels)
    return data if is_small else _encode_jpeg(pixels, packing.jpeg_quality, name)


def _encode_jpeg(pixels: NDArray[np.uint8], quality: int, name: str) -> bytes:
    is_encoded, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_encoded:
        raise ImageDecodeError(
            f"{name}: {pixels.shape[1]} x {pixels.shape[0]} pixels exceed the limits of JPEG → set "
            "data_preparation.shards.mode: original, or remove the image"
        )
    return bytes(encoded)
