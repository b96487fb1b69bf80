"""From pixels to the network's input: `NormalizeImage` and `ToCHWImage`, fixed values and no random numbers."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from resnet50_pipeline.imaging.base import IMAGENET_MEAN, IMAGENET_STD, Operator


class NormalizeImage(Operator):
    """`(pixels * scale - mean) / std` in float32; `order: ''` says that pixels are [height, width, channel]."""

    scale: Literal["1.0/255.0"] = Field(default="1.0/255.0", description="A text in PaddleClas' files, so it is here.")
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    order: Literal[""] = ""

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """The result for every pixel value: float32 [256, 3], channels red, green, blue."""
        values = np.arange(256, dtype=np.uint8).reshape(256, 1).astype("float32")
        mean, std = np.array(self.mean).astype("float32"), np.array(self.std).astype("float32")
        table: NDArray[np.float32] = (values * np.float32(1.0 / 255.0) - mean) / std
        return table


class ToCHWImage(Operator):
    """[height, width, channel] → [channel, height, width]; every transform here ends with it, written or not."""
