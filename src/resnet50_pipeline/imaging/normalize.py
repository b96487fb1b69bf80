"""Defines `NormalizeImage` and `ToCHWImage`, which convert pixels to the network's input."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from resnet50_pipeline.imaging.base import IMAGENET_MEAN, IMAGENET_STD, Operator


class NormalizeImage(Operator):
    """Computes `(pixels * scale - mean) / std` in float32. `order: ''` means the layout [height, width, channel]."""

    scale: Literal["1.0/255.0"] = Field(
        default="1.0/255.0",
        description="Factor that maps pixel values to 0..1, as a string like in PaddleClas' files.",
    )
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    order: Literal[""] = ""

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """Lookup table with the result for every pixel value: float32 [256, 3], channels red, green, blue."""
        values = np.arange(256, dtype=np.uint8).reshape(256, 1).astype("float32")
        mean, std = np.array(self.mean).astype("float32"), np.array(self.std).astype("float32")
        table: NDArray[np.float32] = (values * np.float32(1.0 / 255.0) - mean) / std
        return table


class ToCHWImage(Operator):
    """Transposes [height, width, channel] to [channel, height, width].

    This is the last step of every transform, even if `transform_ops` does not list it.
    """
