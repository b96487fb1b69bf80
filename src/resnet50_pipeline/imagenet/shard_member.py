"""What is packed in the place of an image: its own bytes, a smaller JPEG, or its pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.shard_set import SHORT_SIDE, Packing, ShardMode
from resnet50_pipeline.imaging.bitmap import encode_bitmap
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.geometry import ResizeImage

_SUFFIXES: dict[ShardMode, str] = {"original": "", "jpeg-256": "", "raw-256": ".bmp"}


def name_member(path: str, packing: Packing) -> str:
    """Return what a member is called: as the list calls the image, with the ending of what it was made to."""
    return path + _SUFFIXES[packing.mode]


def pack_image(data: bytes, packing: Packing, name: str = "image") -> bytes:
    """Return the bytes that are packed for an image's.

    Pixels are those of `decode_image`: an EXIF orientation is applied, and what is packed has none. An image whose
    short side has no more than `SHORT_SIDE` pixels keeps its size, for enlarging it would add bytes and no detail; and
    with `jpeg-256` its bytes too, EXIF orientation included, so that whoever decodes them applies it.

    Raises:
        ImageDecodeError: the image cannot be decoded.
    """
    if packing.mode == "original":
        return data
    pixels = decode_image(data, name)
    is_small = min(pixels.shape[:2]) <= SHORT_SIDE
    if not is_small:
        pixels = ResizeImage(resize_short=SHORT_SIDE, interpolation=packing.interpolation).apply(pixels, None)
    if packing.mode == "raw-256":
        return encode_bitmap(pixels)
    return data if is_small else _encode_jpeg(pixels, packing.jpeg_quality, name)


def _encode_jpeg(pixels: NDArray[np.uint8], quality: int, name: str) -> bytes:
    is_encoded, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_encoded:
        raise ImageDecodeError(f"{name}: {pixels.shape[1]} x {pixels.shape[0]} pixels do not fit into a JPEG")
    return bytes(encoded)
