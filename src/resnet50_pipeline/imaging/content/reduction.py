"""Reduces images to the small gray images from which hashes and scores are computed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# The sides of a reduced image are at most 127 pixels (7 bits) long, unless one side is a single pixel.
_SIDE_BITS = 7
# Scan processes already use all cores, and OpenCV's threads would compete with them.
cv2.setNumThreads(0)


def reduce_to_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve an image, BGR uint8 [H, W, 3], until both sides are below 128 pixels, and return its gray values.

    The gray values, uint8 [h, w], use the weights of ITU-R BT.601, as in Pillow. Each step averages 2 x 2 pixels, which
    is much faster than reducing by other factors, and drops an odd last row or column. If there are several steps, the
    first one skips every second row instead of averaging it, which saves a third of the time.
    """
    height, width = pixels.shape[:2]
    steps = max(0, min(max(height, width).bit_length() - _SIDE_BITS, min(height, width).bit_length() - 1))
    skips_rows = steps > 1
    if skips_rows:
        pixels = pixels[: height // 2 * 2 : 2]
    for _ in range(steps - skips_rows):
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    gray: NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    if skips_rows:
        height, width = gray.shape[0], gray.shape[1] // 2
        gray = cv2.resize(gray[:, : 2 * width], (width, height))  # linear interpolation averages two columns
    return gray
