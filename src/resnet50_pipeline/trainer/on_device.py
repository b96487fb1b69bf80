"""What is done to a batch where the network computes: it is copied there, and, as uint8, normalised and mixed there."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import paddle
from paddle.utils.dlpack import from_dlpack

from resnet50_pipeline.imaging.mixing import MixPlan
from resnet50_pipeline.imaging.normalize import NormalizeImage
from resnet50_pipeline.trainer.buffers import Buffers
from resnet50_pipeline.trainer.loaded_batch import Images


class DeviceImages:
    """Batches of images on the device.

    On a GPU a batch goes through pinned memory, so that the copy runs beside the step before it. On the CPU there is
    nowhere to go: the tensor is the array's memory, where Paddle can have it so (3.3), or a copy (2.6).
    """

    def __init__(self, normalize: NormalizeImage, batch_bytes: int) -> None:
        """Prepare.

        Args:
            normalize: what uint8 images become float32 with.
            batch_bytes: of the largest batch in float32, 0 where that is not known.
        """
        self._normalize = normalize
        self._tables = [np.ascontiguousarray(normalize.table[:, channel]) for channel in range(3)]
        # The batch that the network works on, the one before, which goes when this one is taken, and one more.
        self._buffers = Buffers(3, batch_bytes)
        self._last: tuple[paddle.Tensor, Any] | None = None

    def put(self, images: Images) -> paddle.Tensor:
        """Return images [N, 3, H, W], float32 or uint8, as float32 on the current device."""
        is_normalized = images.dtype != np.uint8
        if paddle.get_device() == "cpu":
            return from_dlpack((images if is_normalized else self._look_up(images)).__dlpack__())
        tensor = self._copy(images)
        return tensor if is_normalized else normalize_on_device(tensor, self._normalize)

    def _look_up(self, images: Images) -> Images:
        """Return uint8 images as float32: on the CPU a table is sooner read than numbers are computed."""
        normalized = self._buffers.take(images.shape, np.float32)
        for image, into in zip(images, normalized, strict=True):
            for plane, table, place in zip(image, self._tables, into, strict=True):
                cv2.LUT(plane, table, place)
        return normalized

    def _copy(self, array: Images) -> paddle.Tensor:
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
