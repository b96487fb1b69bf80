"""Measures where an operator crops, by intercepting the call to cv2.resize that follows every crop."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import cv2
import numpy as np

WIDTH, HEIGHT = 500, 375


def crop_boxes(crop: Callable[[np.ndarray, int], object], count: int) -> list[list[int]]:
    """Return [left, top, width, height] of each of `count` crops from an image of WIDTH x HEIGHT."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    boxes: list[list[int]] = []
    resize = cv2.resize

    def resize_and_record(pixels: np.ndarray, *arguments: object, **options: object) -> np.ndarray:
        # A crop is a view, so its address in memory gives its position in the image.
        offset = pixels.__array_interface__["data"][0] - image.__array_interface__["data"][0]
        top, rest = divmod(offset, WIDTH * 3)
        boxes.append([rest // 3, top, pixels.shape[1], pixels.shape[0]])
        return resize(pixels, *arguments, **options)

    with mock.patch.object(cv2, "resize", resize_and_record):
        for number in range(count):
            crop(image, number)
    return boxes
