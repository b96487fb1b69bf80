"""The error about a device that ran out of memory states the batch size, the precision, the peak and the remedy."""

from __future__ import annotations

from pathlib import Path

import paddle
import pytest

from placed import render_training_config
from resnet50_pipeline.exceptions import DeviceMemoryError
from resnet50_pipeline.paddleclas.launch.failure import describe_failure
from resnet50_pipeline.paddleclas.launch.processes import RankEnd
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.recipe.precision import AMPConfig
from resnet50_pipeline.trainer.monitoring.memory import explaining_out_of_memory

# Paddle 2.6: paddle/fluid/memory/allocation/cuda_allocator.cc, with the values of PaddlePaddle/Paddle issue 42228.
REAL_TEXT = """

--------------------------------------
C++ Traceback (most recent call last):
--------------------------------------
0   conv2d_ad_func(paddle::Tensor const&, paddle::Tensor const&)
1   paddle::memory::allocation::CUDAAllocator::AllocateImpl(unsigned long)

----------------------
Error Message Summary:
----------------------
ResourceExhaustedError:

Out of memory error on GPU 0. Cannot allocate 98.000244MB memory on GPU 0, 6.000000GB memory has been allocated and \
available memory is only 0.000000B.

Please check whether there is any other process using GPU 0.
1. If yes, please stop them, or start PaddlePaddle on another GPU.
2. If no, please decrease the batch size of your model.
 (at ../paddle/fluid/memory/allocation/cuda_allocator.cc:86)
"""
REQUEST = (
    "Paddle: Cannot allocate 98.000244MB memory on GPU 0, 6.000000GB memory has been allocated and available memory is "
    "only 0.000000B. "
)


@pytest.fixture
def config(training_parameters, dataset_parameters, monkeypatch) -> TrainingConfig:
    """A run with batches of 6 images for training and 5 for evaluation, on a card with a peak of 5.5 GiB."""
    monkeypatch.setattr(paddle.device.cuda, "memory_allocated", lambda: 1 << 30)
    monkeypatch.setattr(paddle.device.cuda, "max_memory_allocated", lambda: 11 << 29)
    training = training_parameters(batch_size_per_rank=6, eval_batch_size_per_rank=5)
    return render_training_config(training, dataset_parameters)


def explain(config: TrainingConfig, device: str, task, error: Exception) -> str:
    with pytest.raises(DeviceMemoryError) as raised, explaining_out_of_memory(config, device, task):
        raise error
    return str(raised.value)


@pytest.mark.parametrize(
    ("amp", "precision", "second"),
    [
        (None, "float32", "set training.amp.use_amp: true"),
        (AMPConfig(), "float16 (O1)", "set training.amp.level: O2"),
        (AMPConfig(level="O2", dtype="bfloat16"), "bfloat16 (O2)", "lower training.train_transform.size"),
    ],
    ids=["float32", "O1", "O2"],
)
@pytest.mark.parametrize("kind", [MemoryError, RuntimeError])
def test_error_names_cause_and_remedy(config: TrainingConfig, amp, precision: str, second: str, kind):
    """The error shows the device, batch size, precision, peak and Paddle's numbers, and two parameters to change."""
    message = explain(config.model_copy(update={"AMP": amp}), "gpu:0", "training", kind(REAL_TEXT))
    assert message == (
        f"gpu:0 ran out of memory during training, with batches of 6 images in {precision}, with a peak of 5.5 GiB in "
        f"tensors. {REQUEST}Lower training.batch_size_per_rank (or training.max_batch_size_per_rank, if the batch size "
        f"is derived from training.images_per_step), {second}, or stop other programs that use the device"
    )


def test_evaluation_has_its_own_batch_size(config: TrainingConfig):
    """During an evaluation, the error names the evaluation's batch size. Custom devices have no known peak."""
    message = explain(config, "npu:1", "evaluation", MemoryError("ResourceExhaustedError: no memory left on NPU 1"))
    assert message == (
        "npu:1 ran out of memory during evaluation, with batches of 5 images in float32. Lower "
        "training.eval_batch_size_per_rank, or stop other programs that use the device"
    )


@pytest.mark.parametrize(
    ("device", "error"),
    [("gpu:0", RuntimeError("cuDNN error")), ("gpu:0", MemoryError()), ("cpu", MemoryError("ResourceExhaustedError"))],
)
def test_other_errors_are_unchanged(config: TrainingConfig, device: str, error: Exception):
    """Errors with other causes, and errors about host memory, are not converted."""
    with pytest.raises(type(error)) as raised, explaining_out_of_memory(config, device, "training"):
        raise error
    assert raised.value is error


def test_control_plane_shows_the_error_of_the_rank(tmp_path: Path):
    """The run fails with the rank's explanation. Without an explanation, Paddle's own message is recognized."""
    log = tmp_path / "workerlog.0"
    log.write_text("Traceback …\nDeviceMemoryError: gpu:0 ran out of memory during training, with 6 images\n")
    error = describe_failure(1, tmp_path, RankEnd(0, 0, 1))
    assert isinstance(error, DeviceMemoryError)
    assert str(error).startswith("gpu:0 ran out of memory during training")
    log.write_text(f"terminate called after throwing an instance of 'BadAlloc'\n  what(): {REAL_TEXT}")
    aborted = describe_failure(1, tmp_path, RankEnd(0, 0, -6))
    assert "the device is out of memory: lower training.batch_size_per_rank" in str(aborted)
    assert not aborted.is_transient
