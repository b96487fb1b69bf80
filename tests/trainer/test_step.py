"""A training step does not wait for the device, accumulates gradients correctly and resumes exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from emulation import emulate_half_precision
from resnet50_pipeline.checkpoint_set import Snapshot, TrainingState, read_state, save_checkpoint
from resnet50_pipeline.recipe.precision import AMPConfig
from resnet50_pipeline.trainer.optimization import precision
from resnet50_pipeline.trainer.step import Stepper
from steppers import Build, batch_of, weights_of

BATCH_NORMS = ("*bn",)
BRAIN = AMPConfig(dtype="bfloat16", scale_loss=1.0, use_dynamic_loss_scaling=False)
ADAMW = {"name": "AdamW", "weight_decay": 0.05}
# Tensor methods that make the host wait for the device. Paddle's own operators and optimizers never call them.
READING = ("numpy", "item", "tolist", "__float__", "__int__", "__bool__", "__index__", "__array__")


@pytest.mark.parametrize(
    ("changes", "reads"),
    [
        ({}, 0),
        ({"optimizer": ADAMW, "ema_decay": 0.99, "label_smoothing": 0.1}, 0),
        ({"loss": {"name": "MultiLabelLoss", "target_threshold": 0.2}, "update_freq": 2}, 0),
        ({"amp": BRAIN, "arch": {"data_format": "NHWC"}}, 0),
        ({"loss": {"class_weights": [1, 2, 3]}, "arch": {"freeze": ["stem"], "thaw_epoch": 2}}, 0),
        ({"amp": AMPConfig()}, 1),
    ],
    ids=["reference", "adamw-ema", "bce-accumulated", "bfloat16-nhwc", "weighted-thawing", "float16"],
)
def test_step_reads_nothing_back(stepper: Build, changes: dict, reads: int, monkeypatch):
    """A step never reads from the device, except for the flag that decides whether to skip a float16 step."""
    emulate_half_precision(monkeypatch)
    run = stepper(**{**changes, "arch": {"name": "ResNet18", **changes.get("arch", {})}, "update_ratios": True})
    run.start_epoch(1)
    for batches in range(2):  # the first steps allocate the optimizer's state
        run.run(batch_of(4, mixed=True), batches)
    found: list[str] = []
    inside: list[str] = []

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: Any, **named: Any) -> Any:
            if not inside:  # bool() calls numpy(): count a nested read once
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
        run.run(batch_of(4, mixed=True), batches, is_reported=batches >= 4)
    monkeypatch.undo()
    assert found == ["__bool__"] * 4 * reads


@pytest.mark.parametrize(("optimizer", "learning_rate"), [({}, 1e-3), (ADAMW, 1e-5)], ids=["momentum", "adamw"])
def test_accumulated_batches_match_one_large_batch(stepper: Build, optimizer: dict, learning_rate: float):
    """Three steps of two batches of 4 change every tensor like three steps of one batch of 8, within rounding.

    BatchNorm is frozen, so that an image's gradient does not depend on its batch. Sums over a batch are still added in
    a different order, and a difference in the last bit can change the sign of a ReLU's input. A diverging network would
    amplify such differences at every step, so the learning rates are small enough for the loss to fall. The bound
    applies to the norm of a tensor, because AdamW also moves weights whose gradients are only rounding error, and those
    weights differ. With paddle 3.3.1, rounding causes differences of up to 5e-5, even if only the order of the 8 images
    changes. A lost batch, a step one batch too early, or gradients that are not divided by `update_freq` cause
    differences of at least 0.2.
    """
    values = {
        "arch": {"name": "ResNet18", "freeze": BATCH_NORMS},
        "optimizer": optimizer,
        "lr": {"name": "Cosine", "learning_rate": learning_rate},
        "ema_decay": 0.5,
    }
    small, large = stepper(**values, update_freq=2), stepper(**values)
    before = weights_of(small)
    for step in range(3):
        for half in range(2):
            small.run(batch_of(4, start=4 * half), 2 * step + half)
        large.run(batch_of(8), step)
    assert small.learning_rate == large.learning_rate
    accumulated = small.files()
    for file, arrays in large.files().items():
        for name, array in arrays.items():
            change = array - before.get(name, 0)  # the optimizer's state begins at zero
            difference = np.linalg.norm(accumulated[file][name] - array)
            assert difference <= 2e-3 * np.linalg.norm(change), f"{file} {name}"


def test_float16_run_resumes_exactly_from_a_checkpoint_set(stepper: Build, tmp_path: Path, monkeypatch):
    """Weights, optimizer, average and loss scale continue as in an uninterrupted run, after overflows and growth."""
    emulate_half_precision(monkeypatch)
    monkeypatch.setattr(precision, "STEPS_TO_GROWTH", 3)
    values = {"arch": {"name": "ResNet18"}, "ema_decay": 0.9, "amp": AMPConfig(scale_loss=2.0**24)}
    whole, resumed = stepper(**values), stepper(**values, seed=8)
    for step in range(8):
        whole.run(batch_of(4), step)
    state = TrainingState(
        epoch=0,
        step=8,
        step_in_epoch=8,
        steps_per_epoch=20,
        ranks=1,
        best_epoch=0,
        best_top1=-1.0,
        recipe={},
        paddle_version=paddle.__version__,
        **whole.values(),
    )
    assert state.precision["skipped_steps"] > 0
    save_checkpoint(tmp_path / "set", Snapshot(state, whole.files()))
    resumed.restore(tmp_path / "set", read_state(tmp_path / "set"))
    for step in range(8, 14):
        for run in (whole, resumed):
            run.run(batch_of(4), step)
    assert resumed.values() == whole.values()
    assert whole.values()["precision"] != state.precision
    found = resumed.files()
    for file, arrays in whole.files().items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[file][name], array, err_msg=f"{file} {name}")


def test_fine_tuning_starts_the_average_at_the_loaded_weights(stepper: Build, tmp_path: Path):
    """The average does not contain the random weights that the network had before loading."""
    source, tuned = stepper(seed=1), stepper(seed=2, ema_decay=0.9)
    path = tmp_path / "weights.safetensors"
    save_file(weights_of(source), path)
    tuned.start_from(path)
    for name, array in tuned.files()["ema.safetensors"].items():
        np.testing.assert_array_equal(array, weights_of(source)[name], err_msg=name)


@pytest.mark.parametrize("optimizer", [{}, ADAMW], ids=["momentum", "adamw"])
def test_thawing_layers_are_frozen_until_their_epoch(stepper: Build, optimizer: dict):
    """Before thaw_epoch, every tensor is the same as in a run with frozen layers. Afterward, all layers change."""
    values = {"optimizer": optimizer, "update_freq": 2, "epochs": 3}
    arch = {"name": "ResNet18", "freeze": ["stem", "blocks.[0-3]"]}
    frozen, thawing = stepper(arch=arch, **values), stepper(arch={**arch, "thaw_epoch": 2}, **values)
    before = weights_of(thawing)
    for run in (frozen, thawing):
        run.start_epoch(1)
        for batches in range(4):
            run.run(batch_of(4, start=4 * (batches % 2)), batches)
    first = weights_of(thawing)
    for name, array in weights_of(frozen).items():
        np.testing.assert_array_equal(first[name], array, err_msg=name)
    held = [name for name in before if name.startswith(("stem.", "blocks.0.", "blocks.3."))]
    assert all(np.array_equal(first[name], before[name]) for name in held)
    thawing.start_epoch(2)
    for batches in range(4, 6):
        thawing.run(batch_of(4), batches)
    after = weights_of(thawing)
    assert [name for name in held if np.array_equal(after[name], before[name])] == []


@pytest.mark.parametrize("optimizer", [{}, ADAMW], ids=["momentum", "adamw"])
@pytest.mark.parametrize("place", [(1, 0), (1, 1)], ids=["before-thaw", "after-thaw"])
def test_thawing_run_resumes_exactly(stepper: Build, optimizer: dict, place: tuple[int, int], tmp_path: Path):
    """A run resumes bit for bit from the end of the frozen epoch, or from the middle of the first thawed epoch."""
    epoch, step_in_epoch = place
    arch = {"name": "ResNet18", "freeze": ["stem", "blocks.[0-6]"], "thaw_epoch": 2}
    values = {"arch": arch, "optimizer": optimizer}
    whole, resumed = stepper(**values), stepper(**values, seed=8)

    def step(run: Stepper, steps: range) -> None:
        for number in steps:
            run.start_epoch(number // 2 + 1)
            run.run(batch_of(4, start=number), number)

    done = 2 * epoch + step_in_epoch
    step(whole, range(done))
    state = TrainingState(
        epoch=epoch,
        step=done,
        step_in_epoch=step_in_epoch,
        steps_per_epoch=2,
        ranks=1,
        best_epoch=0,
        best_top1=0.0,
        recipe={},
        paddle_version=paddle.__version__,
        **whole.values(),
    )
    save_checkpoint(tmp_path / "set", Snapshot(state, whole.files()))
    resumed.restore(tmp_path / "set", read_state(tmp_path / "set"))
    for run in (whole, resumed):
        step(run, range(done, done + 3))
    expected = whole.files()
    for file, arrays in resumed.files().items():
        assert arrays.keys() == expected[file].keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[file][name], err_msg=f"{file} {name}")
