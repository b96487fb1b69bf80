"""Copies tensors to host memory. The memory is allocated once and reused for all checkpoint sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.checkpoint_set import Arrays


class HostCopies:
    """Host memory for the tensors of checkpoint sets.

    The kernel clears each page on first use, which takes five times as long as the copy itself. The memory is therefore
    allocated once, before the first step, and each set overwrites it.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], tuple[paddle.Tensor, NDArray[np.float32]]] = {}

    def reserve(self, file: str, shapes: Mapping[str, Sequence[int]]) -> None:
        """Allocate the memory for the tensors in a file. `shapes` maps their names to their shapes."""
        for name, shape in shapes.items():
            # np.zeros alone would leave the pages untouched; the copy into Paddle's tensor writes to them.
            buffer = paddle.to_tensor(np.zeros(tuple(shape), dtype=np.float32), place=paddle.CPUPlace())
            view: NDArray[Any] = np.from_dlpack(_DLPackTensor(buffer))
            self._buffers[file, name] = buffer, view

    def copy(self, file: str, tensors: Mapping[str, paddle.Tensor]) -> Arrays:
        """Copy the tensors for a file to host memory. The next call for the same file overwrites the returned arrays.

        Args:
            file: name of the file. Each file has its own memory, even for tensors with the same name.
            tensors: float32 tensors keyed by name, on any device.
        """
        self.reserve(file, {name: t.shape for name, t in tensors.items() if (file, name) not in self._buffers})
        arrays: Arrays = {}
        for name, tensor in tensors.items():
            buffer, arrays[name] = self._buffers[file, name]
            buffer.copy_(tensor, True)  # blocking: the next step overwrites the tensor on the device
        return arrays


class _DLPackTensor:
    """Adds the DLPack protocol, which Paddle 2.6 does not support, so that NumPy can share a host tensor's memory."""

    def __init__(self, tensor: paddle.Tensor) -> None:
        self._tensor = tensor

    def __dlpack__(self, **_: Any) -> Any:
        return paddle.utils.dlpack.to_dlpack(self._tensor)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # kDLCPU in dlpack.h
