"""Copies batches to the device. The device normalizes and mixes uint8 images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import paddle
from paddle.utils.dlpack import from_dlpack

from resnet50_pipeline.imaging.mixing import MixPlan
from resnet50_pipeline.imaging.normalize import NormalizeImage
from resnet50_pipeline.trainer.data.buffers import Buffers
from resnet50_pipeline.trainer.data.dataset import Images


class DeviceImages:
    """Copies batches of images to the current device.

    On a GPU, a batch is first copied to pinned memory, so that the copy to the GPU can run during the previous step. On
    a CPU, Paddle 3.3 shares the array's memory, and Paddle 2.6 makes a copy.
    """

    def __init__(self, normalize: NormalizeImage, batch_bytes: int) -> None:
        """Prepare lookup tables and buffers.

        Args:
            normalize: normalization of uint8 images.
            batch_bytes: size in bytes of the largest batch as float32, or 0 if unknown.
        """
        self._normalize = normalize
        self._tables = [np.ascontiguousarray(normalize.table[:, channel]) for channel in range(3)]
        # Three buffers: for the batch in use, for the next batch, and for the previous batch, which is released only
        # after the next batch has its buffer.
        self._buffers = Buffers(3, batch_bytes)
        self._last: tuple[paddle.Tensor, Any] | None = None

    def put(self, images: Images) -> paddle.Tensor:
        """Copy images [N, 3, H, W] to the current device and return them as normalized float32.

        This method normalizes uint8 images. Images in float32 must already be normalized.
        """
        is_normalized = images.dtype != np.uint8
        if paddle.get_device() == "cpu":
            return from_dlpack((images if is_normalized else self._normalize_by_table(images)).__dlpack__())
        tensor = self._copy(images)
        return tensor if is_normalized else normalize_on_device(tensor, self._normalize)

    def _normalize_by_table(self, images: Images) -> Images:
        """Normalize uint8 images to float32 with a lookup table, which is faster than arithmetic on a CPU."""
        normalized = self._buffers.take(images.shape, np.float32)
        for image, target in zip(images, normalized, strict=True):
            for plane, table, target_plane in zip(image, self._tables, target, strict=True):
                cv2.LUT(plane, table, target_plane)
        return normalized

    def _copy(self, array: Images) -> paddle.Tensor:
        if not paddle.get_device().startswith("gpu"):
            return paddle.to_tensor(array)
        pinned = paddle.to_tensor(array, place=paddle.CUDAPinnedPlace())
        copied = pinned.cuda(blocking=False)
        done = paddle.device.cuda.Event()
        done.record(paddle.device.cuda.current_stream())
        if self._last is not None:
            # Replacing `_last` frees the previous pinned memory, so the GPU must have finished reading it. This call
            # rarely waits, because an entire training step was queued after that copy.
            self._last[1].synchronize()
        self._last = (pinned, done)
        return copied


def normalize_on_device(images: paddle.Tensor, normalize: NormalizeImage) -> paddle.Tensor:
    """Normalize uint8 images [N, 3, H, W] to float32 with the same operations in the same order as `NormalizeImage`."""
    shape = [1, 3, 1, 1]
    result = images.astype("float32")
    result.scale_(float(np.float32(1.0 / 255.0)))
    result.subtract_(paddle.to_tensor(np.array(normalize.mean, dtype=np.float32).reshape(shape)))
    return result.divide_(paddle.to_tensor(np.array(normalize.std, dtype=np.float32).reshape(shape)))


def mix_on_device(images: paddle.Tensor, plan: MixPlan) -> paddle.Tensor:
    """Mix images [N, 3, H, W] on their device. The result is the same as that of `MixPlan.mix`."""
    other = paddle.index_select(images, paddle.to_tensor(plan.partner), axis=0)
    if plan.window is None:
        return images * plan.share + other * (1 - plan.share)
    top, bottom, left, right = plan.window
    if bottom > top and right > left:
        images[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return images
