"""Plain JPEGs, decoded to OpenCV's pixels by a faster libjpeg-turbo than its own, where simplejpeg is installed.

opencv-python 4.6, which paddleclas pins, carries libjpeg-turbo 2.1.2 and takes 1.8 times as long for a photograph of
ImageNet's size (docs/input-pipeline.md). Both use the accurate inverse DCT and the smooth upsampling of colours, which
give the same numbers whatever the version.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.jpeg_stream import JpegHeader


def is_plain(header: JpegHeader) -> bool:
    """Tell whether a JPEG has three colours and stands upright; OpenCV does more than decode the others."""
    return header.mode == "RGB" and header.exif_orientation == 1


def decode_plain_jpeg(data: bytes, header: JpegHeader) -> NDArray[np.uint8] | None:
    """Return the pixels [height, width, 3], channels blue, green, red; None where OpenCV is to decode them.

    That is where simplejpeg is not installed, a JPEG is not plain, or libjpeg-turbo complains of it.
    """
    simplejpeg = _simplejpeg()
    if simplejpeg is None or not is_plain(header):
        return None
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "BGR", strict=True)
    except ValueError:  # damaged: OpenCV's own libjpeg says what becomes of it
        return None
    return pixels


@cache
def _simplejpeg() -> Any:
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None
