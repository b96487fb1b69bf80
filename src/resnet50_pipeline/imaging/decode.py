"""From the bytes of an image file to pixels, the way PaddleClas' `DecodeImage` does it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError

# The ranks and the loader's workers are the parallelism; OpenCV's own threads would fight them for the cores.
cv2.setNumThreads(0)


def decode_image(data: bytes, name: str = "image") -> NDArray[np.uint8]:
    """Return the pixels of an encoded image: uint8 [height, width, 3], channels blue, green, red.

    As in PaddleClas (`cv2.imdecode(data, 1)`): grey and CMYK become three channels, and an EXIF orientation is
    applied, here as in training, evaluation and serving.

    Raises:
        ImageDecodeError: OpenCV finds no image in the bytes.
    """
    try:
        pixels: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # an empty buffer, or more pixels than OpenCV's limit of 2^30
        raise ImageDecodeError(f"{name}: cannot be decoded ({len(data)} bytes): {error}") from error
    if pixels is None:
        raise ImageDecodeError(
            f"{name}: {len(data)} bytes that begin with {data[:8]!r} are no image that OpenCV can decode; "
            f"replace the file or take its line out of the list"
        )
    return pixels
