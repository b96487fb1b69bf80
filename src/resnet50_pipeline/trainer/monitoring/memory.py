"""Reads how much memory a rank uses, and explains out-of-memory errors of its device."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import paddle

from resnet50_pipeline.exceptions import DeviceMemoryError
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.text import format_bytes, pluralize

_STATUS = Path("/proc/self/status")
# Paddle raises MemoryError for ResourceExhaustedError (paddle/fluid/pybind/exception.cc). Errors from other threads and
# plug-ins can have another type. The text is from paddle/fluid/memory/allocation/cuda_allocator.cc.
_MEMORY_ERRORS = (MemoryError, RuntimeError, SystemError, OSError)
_OUT_OF_MEMORY = re.compile(r"ResourceExhaustedError|Out of memory error on", re.IGNORECASE)
_REQUEST = re.compile(r"Cannot allocate .*?(?=\.\s*$)", re.MULTILINE)


def read_memory(device: str) -> tuple[int, int] | None:
    """Return the current and the highest memory use of this rank in bytes, or None if unknown.

    On a GPU, this is the memory of Paddle's tensors on the card, without the CUDA context and memory that Paddle keeps
    for later tensors. On a CPU, it is the resident memory of the process. Paddle cannot measure custom devices.
    """
    if device.startswith("gpu"):
        cuda = paddle.device.cuda
        return int(cuda.memory_allocated()), int(cuda.max_memory_allocated())
    if device != "cpu" or not _STATUS.exists():
        return None
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s*(\d+) kB$", _STATUS.read_text(encoding="utf-8"), re.MULTILINE))
    if len(found) < 2:  # gVisor, for example, has no VmHWM
        return None
    return int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024


@contextlib.contextmanager
def explaining_out_of_memory(
    config: TrainingConfig, device: str, task: Literal["training", "evaluation"]
) -> Iterator[None]:
    """Convert Paddle's out-of-memory error in the block to an error that states the cause and the remedy.

    Args:
        config: batch sizes and precision.
        device: Paddle's name for this rank's device.
        task: what the block does.

    Raises:
        DeviceMemoryError: if the device is out of memory.
    """
    try:
        yield
    except _MEMORY_ERRORS as error:
        if device == "cpu" or not _OUT_OF_MEMORY.search(str(error)):
            raise
        memory = read_memory(device)
        peak = "" if memory is None else f", with a peak of {format_bytes(memory[1])} in tensors"
        request = _REQUEST.search(str(error))
        detail = "" if request is None else f"Paddle: {' '.join(request[0].split())}. "
        what, advice = _describe(config, task)
        raise DeviceMemoryError(
            f"{device} ran out of memory during {task}, with {what}{peak}. {detail}{advice}, or stop other programs "
            "that use the device"
        ) from error


def _describe(config: TrainingConfig, task: Literal["training", "evaluation"]) -> tuple[str, str]:
    """Return the batch size and precision, and the parameters that reduce memory use."""
    data, amp = config.DataLoader, config.AMP
    if task == "evaluation":
        images = pluralize(data.Eval.sampler.batch_size, "image")
        return f"batches of {images} in float32", "Lower training.eval_batch_size_per_rank"
    if amp is None or not amp.use_amp:
        precision, second = "float32", "set training.amp.use_amp: true"
    elif amp.level == "O1":
        precision, second = f"{amp.dtype} (O1)", "set training.amp.level: O2"
    else:
        precision, second = f"{amp.dtype} (O2)", "lower training.train_transform.size"
    images = pluralize(data.Train.sampler.batch_size, "image")
    return (
        f"batches of {images} in {precision}",
        "Lower training.batch_size_per_rank (or training.max_batch_size_per_rank, if the batch size is derived from "
        f"training.images_per_step), {second}",
    )
