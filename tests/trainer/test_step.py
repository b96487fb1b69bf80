"""One step: nothing is read back from the device, and accumulated batches are one large one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from resnet50_pipeline.paddleclas.config import render_training_config
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.trainer.data import Batch, Mixed
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.step import Stepper

BATCH_NORMS = ("*bn",)
ADAMW = {"name": "AdamW", "weight_decay": 0.05}
# What makes the host wait for the device; Paddle's own operators and optimizers never call these.
READING = ("numpy", "item", "tolist", "__float__", "__int__", "__bool__", "__index__", "__array__")

Build = Callable[..., Stepper]


@pytest.fixture
def stepper(training_parameters, dataset_parameters: DatasetParameters) -> Build:
    """A function from recipe values to the stepper of one rank."""

    def build(**changes: Any) -> Stepper:
        config = render_training_config(
            training_parameters(**changes), dataset_parameters, Path("train_list.txt"), Path("val_list.txt")
        )
        return Stepper(config, Ranks(rank=0, count=1, device="cpu"), steps_per_epoch=4)

    return build


def batch_of(images: int, start: int = 0, mixed: bool = False) -> Batch:
    pixels = np.random.default_rng(0).random((16, 3, 32, 32), dtype=np.float32)[start : start + images]
    index = np.arange(start, start + images)
    other = Mixed(paddle.to_tensor(index[::-1] % 3), paddle.full([images], 0.7)) if mixed else None
    return Batch(paddle.to_tensor(pixels), paddle.to_tensor(index % 3), paddle.to_tensor(index), other)


def weights_of(stepper: Stepper) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in stepper.files()["weights.safetensors"].items()}


@pytest.mark.parametrize(
    ("changes", "reads"),
    [
        ({}, 0),
        ({"optimizer": ADAMW, "ema_decay": 0.99, "label_smoothing": 0.1}, 0),
        ({"loss": {"name": "MultiLabelLoss", "target_threshold": 0.2}, "update_freq": 2}, 0),
        ({"amp": {"use_amp": True, "dtype": "bfloat16", "emulate_on_cpu": True}, "arch": {"data_format": "NHWC"}}, 0),
        ({"amp": {"use_amp": True, "dtype": "float16", "emulate_on_cpu": True}}, 1),
    ],
    ids=["reference", "adamw-ema", "bce-accumulated", "bfloat16-nhwc", "float16"],
)
def test_step_reads_nothing_back(stepper: Build, changes: dict, reads: int, monkeypatch):
    """The host waits for the device in no step, but for the one flag that decides whether a float16 step is skipped."""
    run = stepper(**{**changes, "arch": {"name": "ResNet18", **changes.get("arch", {})}})
    run.train()
    for batches in range(2):  # what is built at the first step
        run.run(batch_of(4, mixed=True), batches)
    found: list[str] = []
    inside: list[str] = []

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: Any, **named: Any) -> Any:
            if not inside:  # a read inside a read, as numpy() inside bool(), waits once
                found.append(name)
            inside.append(name)
            try:
                return original(*arguments, **named)
            finally:
                inside.pop()

        return method

    for name in READING:
        if hasattr(paddle.Tensor, name):
            monkeypatch.setattr(paddle.Tensor, name, counting(name, getattr(paddle.Tensor, name)))
    for batches in range(2, 6):
        run.run(batch_of(4, mixed=True), batches)
    monkeypatch.undo()
    assert found == ["__bool__"] * 4 * reads


@pytest.mark.parametrize("optimizer", [{}, ADAMW], ids=["momentum", "adamw"])
def test_accumulated_batches_are_one_large_batch(stepper: Build, optimizer: dict):
    """Two batches of 4 with update_freq 2 move the weights as one of 8 does, where BatchNorm does not see the batch."""
    arch = {"name": "ResNet18", "freeze": BATCH_NORMS}
    small = stepper(arch=arch, update_freq=2, optimizer=optimizer, ema_decay=0.5)
    large = stepper(arch=arch, optimizer=optimizer, ema_decay=0.5)
    before = weights_of(small)
    for step in range(3):
        for half in range(2):
            small.run(batch_of(4, start=4 * half), 2 * step + half)
        large.run(batch_of(8), step)
    assert small.learning_rate == large.learning_rate
    for name, file in large.files().items():
        found = small.files()[name]
        for key, array in file.items():
            moved = np.abs(array - before[key]).max() if key in before else np.abs(array).max()
            np.testing.assert_allclose(found[key], array, rtol=1e-3, atol=0.02 * moved + 1e-7, err_msg=f"{name} {key}")


def test_average_of_a_fine_tuning_begins_with_the_loaded_weights(stepper: Build, tmp_path: Path):
    """Nothing of the random weights that were there before stays in the average."""
    source, tuned = stepper(seed=1), stepper(seed=2, ema_decay=0.9)
    path = tmp_path / "weights.safetensors"
    save_file(weights_of(source), path)
    tuned.start_from(path)
    for name, array in tuned.files()["ema.safetensors"].items():
        np.testing.assert_array_equal(array, weights_of(source)[name], err_msg=name)
