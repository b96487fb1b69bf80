"""Implements PaddleClas' `RandomErasing`, which overwrites a rectangle of the image (arXiv:1708.04896)."""

from __future__ import annotations

import math
import random
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from resnet50_pipeline.imaging.base import NormalizedOperator, require_rng


def _quotient(value: Any) -> Any:
    """Return the value of a string such as "1.0/3.0", which PaddleClas evaluates as Python code."""
    if not isinstance(value, str):
        return value
    dividend, _, divisor = value.partition("/")
    try:
        return float(dividend) / float(divisor or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{value!r} must be a number or a quotient of two numbers, such as 1.0/3.0") from error


Number = Annotated[float, BeforeValidator(_quotient)]


class RandomErasing(NormalizedOperator):
    """Overwrites a rectangle of the normalized pixels with probability `EPSILON`.

    As in PaddleClas, the rectangle's fraction of the image area is sampled from `sl`..`sh`, and its aspect ratio
    (height / width) from `r1`..1/`r1`, up to `attempt` times until the rectangle fits. `mode` selects the content: the
    color `mean` (`const`), one normally distributed color (`rand`), or one such color per pixel (`pixel`).
    """

    EPSILON: Number = Field(default=0.5, ge=0, le=1)
    sl: Number = Field(default=0.02, gt=0, le=1)
    sh: Number = Field(default=0.4, gt=0, le=1)
    r1: Number = Field(default=0.3, gt=0, le=1)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    attempt: int = Field(default=100, ge=1)
    use_log_aspect: bool = False
    mode: Literal["const", "rand", "pixel"] = "const"

    def apply(self, pixels: NDArray[np.float32], rng: random.Random | None) -> NDArray[np.float32]:
        """Return the pixels, [height, width, 3], with or without an erased rectangle."""
        rng = require_rng(rng, self)
        if rng.random() > self.EPSILON:
            return pixels
        image_height, image_width = pixels.shape[:2]
        for _ in range(self.attempt):
            area = rng.uniform(self.sl, self.sh) * (image_height * image_width)
            if self.use_log_aspect:
                aspect_ratio = math.exp(rng.uniform(math.log(self.r1), math.log(1 / self.r1)))
            else:
                aspect_ratio = rng.uniform(self.r1, 1 / self.r1)
            height, width = round(math.sqrt(area * aspect_ratio)), round(math.sqrt(area / aspect_ratio))
            if width < image_width and height < image_height:
                content = self._fill(height, width, rng)
                top, left = rng.randint(0, image_height - height), rng.randint(0, image_width - width)
                pixels[top : top + height, left : left + width] = content
                return pixels
        return pixels

    def _fill(self, height: int, width: int, rng: random.Random) -> NDArray[np.float64]:
        """Return the content of the rectangle, [height, width, 3] or [1, 1, 3]."""
        if self.mode == "const":
            return np.array(self.mean).reshape(1, 1, 3)
        # NumPy generates many numbers faster than `rng`, which provides the seed.
        normal = np.random.default_rng(rng.getrandbits(64))
        return normal.normal(size=(1, 1, 3) if self.mode == "rand" else (height, width, 3))
