"""A trainer program in which one rank flips a bit or loads slowly: `disturbed_ranks.py train --config FILE`.

Environment variables:

- FLIP is `<what>:<rank>:<step>`: after the given step, the rank flips a bit of its weights or moments, or before that
  step's update, of its reduced gradients.
- SLOW_IMAGES is `<rank>:<seconds>`: the rank takes this long for each image, as on a slow disk.
- EMULATED_AMP=1 trains with the loss scaling and the rounding of float16, which the configuration cannot request on a
  CPU.
"""

from __future__ import annotations

import os
import sys
import time
import zlib  # noqa: F401 - must precede paddle 2.6.2; see trainer/__main__.py
from collections.abc import Callable

import numpy as np
import paddle
import pytest

from emulation import emulate_half_precision
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.recipe.precision import AMPConfig
from resnet50_pipeline.trainer import step as steps
from resnet50_pipeline.trainer.__main__ import main
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.optimization.optimizer_state import optimizer_tensors
from resnet50_pipeline.trainer.optimization.precision import Precision
from resnet50_pipeline.trainer.ranks import own_rank

LAYER = "fc.weight"
BIT = 20  # of the mantissa: changes the value by 1/8 at most, so nothing becomes infinite


def flip_bit(tensor: paddle.Tensor) -> None:
    """Flip one bit of the first value."""
    array = tensor.numpy().copy()
    array.reshape(-1).view(np.uint32)[0] ^= np.uint32(1 << BIT)
    with paddle.no_grad():
        paddle.assign(paddle.to_tensor(array), output=tensor)


def corrupt(what: str, step: int) -> None:
    """Make the step after `step` finished steps flip a bit."""
    update, scaled_step = steps.Stepper._update, Precision.step
    finished = {"steps": 0}

    def corrupting_update(stepper: steps.Stepper) -> None:
        update(stepper)
        finished["steps"] += 1
        if finished["steps"] != step:
            return
        if what == "weights":
            flip_bit(dict(stepper._network.named_parameters())[LAYER])
        if what == "moments":
            flip_bit(optimizer_tensors(stepper._network, stepper._optimizer)[f"{LAYER}/velocity"])

    def corrupting_step(precision: Precision, optimizer: paddle.optimizer.Optimizer, *others: object) -> None:
        if what == "gradients" and finished["steps"] + 1 == step:
            flip_bit(next(p for p in optimizer._parameter_list if p.grad is not None).grad)
        scaled_step(precision, optimizer, *others)

    steps.Stepper._update, Precision.step = corrupting_update, corrupting_step


def load_slowly(seconds: float) -> None:
    """Make every image take longer."""
    read = ListDataset.read

    def read_slowly(dataset: ListDataset, row: int) -> bytes:
        time.sleep(seconds)
        return read(dataset, row)

    ListDataset.read = read_slowly


def emulate_float16() -> None:
    """Train with float16 rounding and a dynamic loss scale."""
    emulate_half_precision(pytest.MonkeyPatch())
    build: Callable[..., None] = steps.Stepper.__init__

    def build_with_amp(stepper: steps.Stepper, config: TrainingConfig, *arguments: object) -> None:
        build(stepper, config.model_copy(update={"AMP": AMPConfig(scale_loss=2.0**10)}), *arguments)

    steps.Stepper.__init__ = build_with_amp


if __name__ == "__main__":
    if flip := os.environ.get("FLIP"):
        what, rank, step = flip.split(":")
        if own_rank() == int(rank):
            corrupt(what, int(step))
    if slow := os.environ.get("SLOW_IMAGES"):
        rank, seconds = slow.split(":")
        if own_rank() == int(rank):
            load_slowly(float(seconds))
    if os.environ.get("EMULATED_AMP"):
        emulate_float16()
    sys.exit(main())
