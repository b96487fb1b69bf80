"""Memory of one batch each, which is used again when nothing looks at it any more."""

from __future__ import annotations

import mmap
import weakref
from collections import deque

import numpy as np
from numpy.typing import DTypeLike

from resnet50_pipeline.trainer.loaded_batch import Images


class Buffers:
    """Equal parts of one anonymous mapping, which child processes inherit.

    Fresh memory for every batch costs more than what is written to it: the kernel clears each page when it is first
    touched. A mapping without a name goes with the last process that has it, and is not bound by the size of /dev/shm.

    Attributes:
        free: numbers of the parts that nobody looks at.
    """

    def __init__(self, count: int, part_bytes: int) -> None:
        self.free = deque(range(count))
        self._part_bytes = part_bytes
        self._memory = memoryview(mmap.mmap(-1, count * part_bytes)) if part_bytes else memoryview(b"")

    def __getitem__(self, number: int) -> memoryview:
        return self._memory[number * self._part_bytes : (number + 1) * self._part_bytes]

    def look_at(self, number: int, shape: tuple[int, ...], dtype: DTypeLike) -> Images:
        """Return a part as an array; it is free again when this array, and every array or tensor over it, is gone."""
        flat = np.frombuffer(self[number], dtype=dtype, count=int(np.prod(shape)))
        # Not on what is returned: NumPy lets a part of that refer to the array below alone.
        weakref.finalize(flat, self.free.append, number).atexit = False
        return flat.reshape(shape)

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> Images:
        """Return a free part as an array; fresh memory where there is none, or it is too small."""
        if not self.free or np.dtype(dtype).itemsize * np.prod(shape) > self._part_bytes:
            return np.empty(shape, dtype=dtype)
        return self.look_at(self.free.popleft(), shape, dtype)
