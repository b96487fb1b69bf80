"""A list of operators put together, with as little work an image as their result allows.

What differs from PaddleClas inside, and not in the result: pixels stay in the decoder's channel order while nothing
looks at colours; normalising is a look-up in a table, one colour plane at a time, straight into the batch; and where
that is asked for, only the part of a JPEG that a random crop looks at is decoded.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.imaging.base import NormalizedOperator, PixelOperator, Pixels
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.geometry import CropImage, RandCropImage, ResizeImage
from resnet50_pipeline.imaging.normalize import NormalizeImage
from resnet50_pipeline.imaging.region import decode_window


class Transform:
    """From the bytes of an image's file to what a network sees, float32 or uint8 [3, height, width].

    The channels of the result are red, green, blue. `None` for the random numbers suits operators that draw none.

    Attributes:
        normalize: mean and deviation, which uint8 pixels are still to be normalised with.
        gives_bytes: whether uint8 pixels say all: nothing stands behind the normalisation.
        size: height and width of every result; None where they depend on the image.
    """

    def __init__(
        self,
        before: Sequence[PixelOperator],
        normalize: NormalizeImage,
        after: Sequence[NormalizedOperator],
        decodes_region: bool = False,
    ) -> None:
        self.normalize = normalize
        self.gives_bytes = not after
        self.size = _size_behind(before)
        self._before, self._after = tuple(before), tuple(after)
        self._is_rgb = any(operator.needs_rgb for operator in before)
        self._crop = before[0] if decodes_region and before and isinstance(before[0], RandCropImage) else None
        self._tables = [np.ascontiguousarray(normalize.table[:, channel]) for channel in range(3)]

    def __call__(self, data: bytes, draw: random.Random | None = None) -> NDArray[np.float32]:
        """Return the normalised image, float32 [3, height, width].

        Raises:
            ImageDecodeError: the bytes are no image that can be decoded whole.
        """
        pixels = self.see(data, draw)
        result = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
        self.write(pixels, result, draw)
        return result

    def see(self, data: bytes, draw: random.Random | None) -> Pixels:
        """Return the pixels that go into the normalisation, [height, width, 3] in an order that `write` knows.

        Raises:
            ImageDecodeError: the bytes are no image that can be decoded whole.
        """
        operators = self._before
        if self._crop is not None and draw is not None:
            pixels = self._crop.resize_window(decode_window(data, self._crop, draw), draw)
            operators = operators[1:]
        else:
            pixels = decode_image(data)
        if self._is_rgb:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        for operator in operators:
            pixels = operator.apply(pixels, draw)
        return pixels

    def write(
        self, pixels: Pixels, into: NDArray[np.float32] | NDArray[np.uint8], draw: random.Random | None = None
    ) -> None:
        """Write what `see` returned into an image's place in a batch, contiguous [3, height, width].

        uint8 is written as it is (see `gives_bytes`), float32 is normalised.

        Raises:
            TrainingConfigError: the place has another size.
        """
        if into.shape[1:] != pixels.shape[:2]:
            # OpenCV would write to memory of its own, and leave what stands there.
            raise TrainingConfigError(
                f"transform_ops give images of different sizes, {pixels.shape[0]} x {pixels.shape[1]} after "
                f"{into.shape[1]} x {into.shape[2]}, and a batch has one; put CropImage or RandCropImage behind what "
                "scales, no larger than that"
            )
        planes = [into[0], into[1], into[2]] if self._is_rgb else [into[2], into[1], into[0]]
        if into.dtype == np.uint8:
            cv2.split(pixels, planes)
            return
        for plane, place, table in zip(
            cv2.split(pixels), planes, self._tables if self._is_rgb else self._tables[::-1], strict=True
        ):
            cv2.LUT(plane, table, place)
        if self._after:
            normalized: NDArray[np.float32] = np.ascontiguousarray(into.transpose(1, 2, 0), dtype=np.float32)
            for operator in self._after:
                normalized = operator.apply(normalized, draw)
            into[:] = normalized.transpose(2, 0, 1)


def _size_behind(operators: Sequence[PixelOperator]) -> tuple[int, int] | None:
    """Return height and width behind the operators, None where they depend on the image."""
    size = None
    for operator in operators:
        if isinstance(operator, RandCropImage | CropImage):
            size = (operator.size, operator.size)
        elif isinstance(operator, ResizeImage):
            side = operator.size
            size = (side, side) if isinstance(side, int) else side[::-1] if side is not None else None
    return size
