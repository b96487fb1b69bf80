"""Applies a list of operators to an image. The result is bit-identical to that of PaddleClas.

Pixels keep the decoder's channel order unless an operator needs RGB. Normalization is a table lookup that writes
directly into the batch. Optionally, only the part of a JPEG that a random crop needs is decoded.
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
    """Converts the bytes of an image file to the network's input, float32 or uint8 [3, height, width].

    The channels of the result are red, green, blue. The random number generator may be None if no operator is random.

    Attributes:
        normalize: the NormalizeImage operator, which can also normalize uint8 results later.
        supports_uint8: whether the transform can return uint8 results that are normalized later. This is possible only
            if no operator follows NormalizeImage.
        size: height and width of every result, or None if the size depends on the image.
        is_rgb: whether the pixels from `apply` are in RGB order. If not, they are in BGR order.
    """

    def __init__(
        self,
        before: Sequence[PixelOperator],
        normalize: NormalizeImage,
        after: Sequence[NormalizedOperator],
        decodes_region: bool = False,
        tiff: bool = False,
    ) -> None:
        self.normalize = normalize
        self.supports_uint8 = not after
        self.size = _output_size_of(before)
        self._before, self._after = tuple(before), tuple(after)
        self.is_rgb = any(operator.needs_rgb for operator in before)
        self._crop = before[0] if decodes_region and before and isinstance(before[0], RandCropImage) else None
        self._tiff = tiff
        self._tables = [np.ascontiguousarray(normalize.table[:, channel]) for channel in range(3)]

    def __call__(self, data: bytes, rng: random.Random | None = None) -> NDArray[np.float32]:
        """Return the normalized image, float32 [3, height, width].

        Raises:
            ImageDecodeError: if the image cannot be decoded or is truncated.
        """
        pixels = self.apply(data, rng)
        result = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
        self.write(pixels, result, rng)
        return result

    def apply(self, data: bytes, rng: random.Random | None, *, is_intact: bool = False) -> Pixels:
        """Decode an image, apply the operators before NormalizeImage, and return pixels for `write`.

        The pixels are uint8 [height, width, 3], in RGB or BGR order.

        Args:
            data: bytes of the file.
            rng: random number generator; may be None if no operator is random.
            is_intact: whether this process has already decoded the same bytes completely. If not, it is unsafe to
                decode only a part of the bytes.

        Raises:
            ImageDecodeError: if the image cannot be decoded.
        """
        operators = self._before
        if self._crop is not None and rng is not None and is_intact:
            pixels = self._crop.resize_window(decode_window(data, self._crop, rng, tiff=self._tiff), rng)
            operators = operators[1:]
        else:
            pixels = decode_image(data, tiff=self._tiff)
        if self.is_rgb:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        for operator in operators:
            pixels = operator.apply(pixels, rng)
        return pixels

    def write(
        self, pixels: Pixels, into: NDArray[np.float32] | NDArray[np.uint8], rng: random.Random | None = None
    ) -> None:
        """Write pixels from `apply` into one image in a batch, contiguous [3, height, width].

        The pixels are normalized for a float32 batch, but not for a uint8 batch (see `supports_uint8`).

        Raises:
            TrainingConfigError: if the batch has a different image size.
        """
        if into.shape[1:] != pixels.shape[:2]:
            # OpenCV would silently write to new memory instead of the batch.
            raise TrainingConfigError(
                f"transform_ops: all images in a batch must have the same size; found {pixels.shape[0]} x "
                f"{pixels.shape[1]} and {into.shape[1]} x {into.shape[2]} → add CropImage or "
                "RandCropImage after the resize"
            )
        planes = [into[0], into[1], into[2]] if self.is_rgb else [into[2], into[1], into[0]]
        if into.dtype == np.uint8:
            cv2.split(pixels, planes)
            return
        for plane, target, table in zip(
            cv2.split(pixels), planes, self._tables if self.is_rgb else self._tables[::-1], strict=True
        ):
            cv2.LUT(plane, table, target)
        if self._after:
            normalized: NDArray[np.float32] = np.ascontiguousarray(into.transpose(1, 2, 0), dtype=np.float32)
            for operator in self._after:
                normalized = operator.apply(normalized, rng)
            into[:] = normalized.transpose(2, 0, 1)


def _output_size_of(operators: Sequence[PixelOperator]) -> tuple[int, int] | None:
    """Return the height and width of the operators' output, or None if it depends on the image."""
    size = None
    for operator in operators:
        if isinstance(operator, RandCropImage | CropImage):
            size = (operator.size, operator.size)
        elif isinstance(operator, ResizeImage):
            side = operator.size
            size = (side, side) if isinstance(side, int) else side[::-1] if side is not None else None
    return size
