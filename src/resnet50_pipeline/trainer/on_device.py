"""What is done to a batch where the network computes: it is copied there, and, as uint8, normalised and mixed there."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.imaging.mixing import MixPlan
from resnet50_pipeline.imaging.normalize import NormalizeImage


class DeviceCopies:
    """Copies of batches on the device; the memory that they come from may be written to as soon as `copy` returns.

    On a GPU a batch goes through pinned memory, so that the copy runs beside the step before it.
    """

    def __init__(self) -> None:
        self._last: tuple[paddle.Tensor, Any] | None = None

    def copy(self, array: NDArray[np.generic]) -> paddle.Tensor:
        """Return the array on the current device."""
        if not paddle.get_device().startswith("gpu"):
            return paddle.to_tensor(array)
        pinned = paddle.to_tensor(array, place=paddle.CUDAPinnedPlace())
        copied = pinned.cuda(blocking=False)
        done = paddle.device.cuda.Event()
        done.record(paddle.device.cuda.current_stream())
        if self._last is not None:
            # The pinned memory of the batch before is given back now. Its copy ended, for the step that uses it has
            # been queued behind it since; should it not have, this waits.
            self._last[1].synchronize()
        self._last = (pinned, done)
        return copied


def normalize_on_device(images: paddle.Tensor, normalize: NormalizeImage) -> paddle.Tensor:
    """Return uint8 images [N, 3, H, W] as float32, with `NormalizeImage`'s operations in its order."""
    shape = [1, 3, 1, 1]
    result = images.astype("float32")
    result.scale_(float(np.float32(1.0 / 255.0)))
    result.subtract_(paddle.to_tensor(np.array(normalize.mean, dtype=np.float32).reshape(shape)))
    return result.divide_(paddle.to_tensor(np.array(normalize.std, dtype=np.float32).reshape(shape)))


def mix_on_device(images: paddle.Tensor, plan: MixPlan) -> paddle.Tensor:
    """Return images [N, 3, H, W] mixed as `MixPlan.mix` does it, where they lie."""
    other = paddle.index_select(images, paddle.to_tensor(plan.partner), axis=0)
    if plan.window is None:
        return images * plan.share + other * (1 - plan.share)
    top, bottom, left, right = plan.window
    if bottom > top and right > left:
        images[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return images
