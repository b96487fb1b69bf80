"""Batches for a stepper, and its weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import paddle

from resnet50_pipeline.trainer.data.batches import Batch, Mixed
from resnet50_pipeline.trainer.step import Stepper

Build = Callable[..., Stepper]


def batch_of(images: int, start: int = 0, mixed: bool = False) -> Batch:
    """Return some of 16 fixed images of 32 x 32 random pixels in 3 classes."""
    pixels = np.random.default_rng(0).random((16, 3, 32, 32), dtype=np.float32)[start : start + images]
    index = np.arange(start, start + images)
    other = Mixed(paddle.to_tensor(index[::-1] % 3), paddle.full([images], 0.7)) if mixed else None
    return Batch(paddle.to_tensor(pixels), paddle.to_tensor(index % 3), paddle.to_tensor(index), other)


def weights_of(stepper: Stepper) -> dict[str, np.ndarray]:
    """Return a copy of the weights, keyed by name."""
    return {name: array.copy() for name, array in stepper.files()["weights.safetensors"].items()}
