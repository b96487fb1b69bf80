"""Copies of tensors on the host, in memory that stays from one checkpoint set to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.checkpoint_set import Arrays


class HostCopies:
    """Where checkpoint sets are copied to.

    The kernel clears every page at its first touch, which takes five times as long as the copy itself; so the memory
    is taken once, before the first step, and filled again for every set.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[paddle.Tensor, NDArray[np.float32]]] = {}

    def make_room(self, file: str, shapes: Mapping[str, Sequence[int]]) -> None:
        """Take the memory for the tensors of a file."""
        for name, shape in shapes.items():
            room = paddle.to_tensor(np.zeros(tuple(shape), dtype=np.float32), place=paddle.CPUPlace())
            self._kept[file, name] = room, np.from_dlpack(_Shared(room))

    def copy(self, file: str, tensors: Mapping[str, paddle.Tensor]) -> Arrays:
        """Return the values of a file's tensors; they stand until it is copied the next time.

        Args:
            file: whose tensors these are.
            tensors: float32, on any device.
        """
        self.make_room(file, {name: t.shape for name, t in tensors.items() if (file, name) not in self._kept})
        arrays: Arrays = {}
        for name, tensor in tensors.items():
            room, arrays[name] = self._kept[file, name]
            room.copy_(tensor, True)  # waits for the device, which later steps change the tensor on
        return arrays


class _Shared:
    """What numpy asks a tensor of the host for, to have its memory; Paddle 2.6 knows only the function."""

    def __init__(self, tensor: paddle.Tensor) -> None:
        self._tensor = tensor

    def __dlpack__(self, **_: Any) -> Any:
        return paddle.utils.dlpack.to_dlpack(self._tensor)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # kDLCPU of dlpack.h
