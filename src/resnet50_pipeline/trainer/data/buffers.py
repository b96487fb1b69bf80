"""Provides a pool of buffers of equal size. A buffer is reused once no array refers to it."""

from __future__ import annotations

import mmap
import weakref
from collections import deque

import numpy as np
from numpy.typing import DTypeLike

from resnet50_pipeline.trainer.data.dataset import Images


class Buffers:
    """Divides an anonymous memory mapping into buffers of equal size. Child processes inherit the mapping.

    Allocating new memory for every batch would take longer than filling it, because the kernel clears each page on
    first use. An anonymous mapping is released when the last process that uses it ends, and is not limited by the size
    of /dev/shm.

    Attributes:
        free: indices of the buffers that no array refers to.
    """

    def __init__(self, count: int, buffer_bytes: int) -> None:
        self.free = deque(range(count))
        self._buffer_bytes = buffer_bytes
        self._memory = memoryview(mmap.mmap(-1, count * buffer_bytes)) if buffer_bytes else memoryview(b"")

    def __getitem__(self, number: int) -> memoryview:
        return self._memory[number * self._buffer_bytes : (number + 1) * self._buffer_bytes]

    def view(self, number: int, shape: tuple[int, ...], dtype: DTypeLike) -> Images:
        """Return a buffer as an array.

        The buffer becomes free again once the array, its slices and all tensors that share its memory have been
        deleted.
        """
        flat = np.frombuffer(self[number], dtype=dtype, count=int(np.prod(shape)))
        # Attach the finalizer to the flat array, because a slice of the reshaped array keeps only the flat array alive.
        weakref.finalize(flat, self.free.append, number).atexit = False
        return flat.reshape(shape)

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> Images:
        """Return a free buffer as an array. If no free buffer is large enough, allocate new memory."""
        if not self.free or np.dtype(dtype).itemsize * np.prod(shape) > self._buffer_bytes:
            return np.empty(shape, dtype=dtype)
        return self.view(self.free.popleft(), shape, dtype)
