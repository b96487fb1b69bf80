"""Resizes images with OpenCV or Pillow, like PaddleClas' `UnifiedResize`."""

from __future__ import annotations

import random
from typing import ClassVar, Literal, Self

import cv2
import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imaging.base import Interpolation, PixelOperator, Pixels, require_rng

# Ranks and DataLoader workers already use all cores, and OpenCV's threads would compete with them.
cv2.setNumThreads(0)

_CV2 = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
_PIL = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING,
}
# The interpolations that `random` chooses from, for both backends.
_RANDOM: tuple[Interpolation, ...] = ("bilinear", "bicubic")
# Without this limit, resizing the short side of a 60000 x 1 JPEG (6 KB) to 256 would take 4 gigapixels.
_MAX_RESIZED_PIXELS = 1 << 26


class ResizingOperator(PixelOperator):
    """An operator that resizes images, with PaddleClas' `interpolation` and `backend` arguments.

    The backends give different results when they shrink an image considerably. Pillow averages all source pixels.
    OpenCV uses only the nearest source pixels (except with `area`), so the result is grainy.
    """

    omitted_defaults: ClassVar[frozenset[str]] = frozenset({"interpolation", "backend"})

    interpolation: Interpolation | None = Field(
        default=None,
        description="Interpolation method. null means bilinear; random picks bilinear or bicubic for each image.",
    )
    backend: Literal["cv2", "pil"] = "cv2"

    @model_validator(mode="after")
    def _backend_knows_interpolation(self) -> Self:
        known = _CV2 if self.backend == "cv2" else _PIL
        if self.interpolation not in (None, "random", *known):
            raise ValueError(
                f"interpolation {self.interpolation} is not supported by backend {self.backend} → "
                f"use one of {', '.join(sorted(known))}"
            )
        return self

    def resize(self, pixels: Pixels, width: int, height: int, rng: random.Random | None) -> Pixels:
        """Return the pixels scaled to [height, width, 3].

        Raises:
            ImageDecodeError: if the result would have more than 2^26 pixels.
        """
        if width * height > _MAX_RESIZED_PIXELS:
            raise ImageDecodeError(
                f"the image has {pixels.shape[1]} x {pixels.shape[0]} pixels and would be resized to {width} x "
                f"{height}, over the limit of {_MAX_RESIZED_PIXELS} pixels → remove the image"
            )
        name = self.interpolation or "bilinear"
        if name == "random":
            name = require_rng(rng, self).choice(_RANDOM)
        if self.backend == "pil":
            return np.asarray(Image.fromarray(pixels).resize((width, height), _PIL[name]))
        resized: Pixels = cv2.resize(pixels, (width, height), interpolation=_CV2[name])
        return resized
