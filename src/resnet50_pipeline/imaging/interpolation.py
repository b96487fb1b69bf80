"""Resizing as PaddleClas' `UnifiedResize` does it: two backends, each with its names of interpolations."""

from __future__ import annotations

import random
from typing import ClassVar, Literal, Self

import cv2
import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imaging.base import Interpolation, PixelOperator, Pixels, require_draw

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
# What `random` draws from, with either backend.
_RANDOM: tuple[Interpolation, ...] = ("bilinear", "bicubic")
# 4 gigapixels would come of a 6 KB JPEG of 60000 x 1 pixels whose short side is scaled to 256.
_MAX_RESIZED_PIXELS = 1 << 26


class ResizingOperator(PixelOperator):
    """An operator that scales pictures, with PaddleClas' `interpolation` (`random`: one of two, drawn) and `backend`.

    The two backends differ: Pillow averages over all pixels that go into a new one, OpenCV (but for `area`) looks at
    its neighbours only, so a picture that is made much smaller shows grain.
    """

    left_out: ClassVar[frozenset[str]] = frozenset({"interpolation", "backend"})

    interpolation: Interpolation | None = Field(default=None, description="None is bilinear, as in PaddleClas.")
    backend: Literal["cv2", "pil"] = "cv2"

    @model_validator(mode="after")
    def _backend_knows_interpolation(self) -> Self:
        known = _CV2 if self.backend == "cv2" else _PIL
        if self.interpolation not in (None, "random", *known):
            raise ValueError(
                f"backend {self.backend} has no interpolation {self.interpolation}; it has {sorted(known)}"
            )
        return self

    def resize(self, pixels: Pixels, width: int, height: int, draw: random.Random | None) -> Pixels:
        """Return the pixels scaled to [height, width, 3].

        Raises:
            ImageDecodeError: the result would be larger than any picture.
        """
        if width * height > _MAX_RESIZED_PIXELS:
            raise ImageDecodeError(
                f"image: {pixels.shape[1]} x {pixels.shape[0]} pixels would become {width} x {height}; "
                f"no picture is so long"
            )
        name = self.interpolation or "bilinear"
        if name == "random":
            name = require_draw(draw, self).choice(_RANDOM)
        if self.backend == "pil":
            return np.asarray(Image.fromarray(pixels).resize((width, height), _PIL[name]))
        resized: Pixels = cv2.resize(pixels, (width, height), interpolation=_CV2[name])
        return resized
