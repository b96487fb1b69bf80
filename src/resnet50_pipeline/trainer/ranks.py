"""Who this process is among the ranks, and the few collectives that the trainer needs."""

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
    """`rank` of `count`, on `device` (Paddle's name of this process' device, as `gpu:2`)."""

    rank: int
    count: int
    device: str

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    def sum(self, values: Sequence[paddle.Tensor | float]) -> NDArray[np.float64]:
        """Return the element-wise sum over all ranks: float64 [len(values)]. Waits for the device and for everybody."""
        scalars = [float(value) for value in values]
        if self.count == 1:
            return np.array(scalars)
        # Sums of up to 1.28 million float64 counts stay exact; float32 would not.
        total = paddle.to_tensor(scalars, dtype="float64")
        dist.all_reduce(total)
        summed: NDArray[np.float64] = total.numpy()
        return summed

    def gather(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Return the values of every rank: float64 [count, len(values)]. Waits for everybody."""
        table = np.zeros((self.count, len(values)))
        table[self.rank] = values
        gathered: NDArray[np.float64] = self.sum(list(table.reshape(-1))).reshape(table.shape)
        return gathered

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.count > 1:
            # Not dist.barrier(): on gloo it is missing from some builds; a sum is the same meeting point.
            self.sum([0.0])

    def copy_from_first(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Overwrite the tensors of every rank with those of rank 0."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def join_ranks(device: str) -> Ranks:
    """Set the device and meet the other ranks that `paddle.distributed.launch` started.

    One rank alone has no process group: collectives would raise "The global group is not initialized".

    Args:
        device: `cpu`, `gpu`, or a Paddle custom device's name.

    Raises:
        TrainingConfigError: the installed Paddle does not know the device, or cannot use it.
    """
    count = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    try:
        paddle.set_device(device)
    except (ValueError, RuntimeError) as error:
        raise TrainingConfigError(
            f"Global.device: this paddle {paddle.__version__} cannot use {device!r} ({error}); set "
            f"training.launch.device, or install the build for it (`make setup GPU=1` for gpu)"
        ) from error
    if count > 1:
        dist.init_parallel_env()
    return Ranks(rank=own_rank(), count=count, device=paddle.get_device())


def own_rank() -> int:
    """Return this process' place among the ranks, 0 where nobody launched it."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0"))
