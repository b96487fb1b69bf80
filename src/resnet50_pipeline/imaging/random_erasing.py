"""PaddleClas' `RandomErasing`: a rectangle of the normalised picture is overwritten (arXiv:1708.04896)."""

from __future__ import annotations

import math
import random
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from resnet50_pipeline.imaging.base import NormalizedOperator, require_draw


def _quotient(value: Any) -> Any:
    """Return the value of a text as "1.0/3.0", which PaddleClas' files hold and PaddleClas evaluates as Python."""
    if not isinstance(value, str):
        return value
    dividend, _, divisor = value.partition("/")
    try:
        return float(dividend) / float(divisor or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{value!r} is neither a number nor a quotient of two") from error


Number = Annotated[float, BeforeValidator(_quotient)]


class RandomErasing(NormalizedOperator):
    """Overwrites a rectangle, `EPSILON` of the time; it stands behind NormalizeImage.

    As in PaddleClas the rectangle's area is drawn from `sl`..`sh` of the picture's and its height / width from
    `r1`..1/`r1`, again and again until it fits, at most `attempt` times. `mode` says with what it is filled: `mean`,
    one normally distributed colour (`rand`), or one for each pixel (`pixel`).
    """

    EPSILON: Number = Field(default=0.5, ge=0, le=1)
    sl: Number = Field(default=0.02, gt=0, le=1)
    sh: Number = Field(default=0.4, gt=0, le=1)
    r1: Number = Field(default=0.3, gt=0, le=1)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    attempt: int = Field(default=100, ge=1)
    use_log_aspect: bool = False
    mode: Literal["const", "rand", "pixel"] = "const"

    def apply(self, pixels: NDArray[np.float32], draw: random.Random | None) -> NDArray[np.float32]:
        """Return the pixels [height, width, 3], a rectangle of them overwritten or not."""
        draw = require_draw(draw, self)
        if draw.random() > self.EPSILON:
            return pixels
        image_height, image_width = pixels.shape[:2]
        for _ in range(self.attempt):
            area = draw.uniform(self.sl, self.sh) * (image_height * image_width)
            if self.use_log_aspect:
                aspect_ratio = math.exp(draw.uniform(math.log(self.r1), math.log(1 / self.r1)))
            else:
                aspect_ratio = draw.uniform(self.r1, 1 / self.r1)
            height, width = round(math.sqrt(area * aspect_ratio)), round(math.sqrt(area / aspect_ratio))
            if width < image_width and height < image_height:
                filling = self._fill(height, width, draw)
                top, left = draw.randint(0, image_height - height), draw.randint(0, image_width - width)
                pixels[top : top + height, left : left + width] = filling
                return pixels
        return pixels

    def _fill(self, height: int, width: int, draw: random.Random) -> NDArray[np.float64]:
        """Return what the rectangle gets, [height, width, 3] or [1, 1, 3]."""
        if self.mode == "const":
            return np.array(self.mean).reshape(1, 1, 3)
        # As many numbers as pixels are NumPy's work; one number of the picture's own makes them its own too.
        normal = np.random.default_rng(draw.getrandbits(64))
        return normal.normal(size=(1, 1, 3) if self.mode == "rand" else (height, width, 3))
