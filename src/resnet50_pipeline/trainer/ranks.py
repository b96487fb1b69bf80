"""Connects this process to the other ranks, and provides the trainer's collective operations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.distributed as dist
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import TrainingConfigError


@dataclass(frozen=True)
class Ranks:
    """This process's rank, and the collective operations over all ranks.

    Attributes:
        rank: number of this rank, 0-based.
        count: number of ranks.
        device: Paddle's name for this rank's device, such as `gpu:2`.
    """

    rank: int
    count: int
    device: str

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0. Only rank 0 writes the files that all ranks share."""
        return self.rank == 0

    def sum(self, values: Sequence[paddle.Tensor | float]) -> NDArray[np.float64]:
        """Return the element-wise sums over all ranks, float64 [len(values)]. Waits for the device and all ranks."""
        scalars = [float(value) for value in values]
        if self.count == 1:
            return np.array(scalars)
        # Use float64, because sums over a million images would lose digits in float32.
        total = paddle.to_tensor(scalars, dtype="float64")
        dist.all_reduce(total)
        summed: NDArray[np.float64] = total.numpy()
        return summed

    def gather(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Return the values of all ranks, float64 [count, len(values)]. Waits for all ranks."""
        table = np.zeros((self.count, len(values)))
        table[self.rank] = values
        gathered: NDArray[np.float64] = self.sum(list(table.reshape(-1))).reshape(table.shape)
        return gathered

    def barrier(self) -> None:
        """Wait until all ranks have called this method."""
        if self.count > 1:
            # Some builds lack dist.barrier() for gloo. A sum waits for all ranks too.
            self.sum([0.0])

    def add_in_tree(self, tensor: paddle.Tensor) -> None:
        """Replace a tensor with its sum over all ranks, which is computed in a binary tree.

        The number of ranks must be a power of two. All ranks get the same bits, whereas `all_reduce` adds the parts of
        a tensor in different orders.
        """
        if self.count == 2:
            dist.all_reduce(tensor)  # a single addition, without a second tensor
            return
        distance = 1
        while distance < self.count:
            partner, received = self.rank ^ distance, paddle.empty_like(tensor)
            if self.rank < partner:
                dist.send(tensor, dst=partner)
                dist.recv(received, src=partner)
            else:
                dist.recv(received, src=partner)
                dist.send(tensor, dst=partner)
            tensor.add_(received)
            distance *= 2

    def copy_from_first(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Copy the values of the tensors from rank 0 to all other ranks."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def join_ranks(device: str) -> Ranks:
    """Set the device and connect to the other ranks started by `paddle.distributed.launch`.

    With a single rank, no process group is created, and Paddle's own collective operations fail with "The global group
    is not initialized".

    Args:
        device: `cpu`, `gpu`, or the name of a Paddle custom device.

    Raises:
        TrainingConfigError: if the installed Paddle cannot use the device.
    """
    count = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    try:
        paddle.set_device(device)
    except (ValueError, RuntimeError) as error:
        raise TrainingConfigError(
            f"Global.device: the installed paddle {paddle.__version__} cannot use {device!r} ({error}). Change "
            f"training.launch.device, or install the Paddle build for this device (`make setup GPU=1` for gpu)"
        ) from error
    if count > 1:
        dist.init_parallel_env()
    return Ranks(rank=own_rank(), count=count, device=paddle.get_device())


def own_rank() -> int:
    """Return the rank of this process, or 0 if the process was started without the launcher."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0"))
