"""Saves and restores the state of optimizers, keyed by the network's parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle.utils import unique_name

from resnet50_pipeline.exceptions import CheckpointError

# The state that Paddle's optimizers keep for each parameter.
_KINDS = {
    "Momentum": ("velocity",),
    "AdamW": ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc"),
}


def optimizer_tensors(network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, paddle.Tensor]:
    """Return the optimizer's state keyed by `<parameter>/<kind>`, such as `fc.weight/velocity`.

    Paddle's own keys are unsuitable for checkpoints, because these keys contain counters that depend on everything else
    that the process has created. The state is empty before the first step.
    """
    state = optimizer.state_dict()
    keys = _keys_by_stem(state)
    return {
        f"{name}/{kind}": state[keys[f"{parameter.name}_{kind}"]]
        for name, parameter in network.named_parameters()
        for kind in _KINDS[type(optimizer).__name__]
        if f"{parameter.name}_{kind}" in keys
    }


def optimizer_shapes(network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, list[int]]:
    """Return the shapes of the tensors that `optimizer_tensors` returns after the first step, under the same keys."""
    return {
        f"{name}/{kind}": [1] if kind.endswith("_pow_acc") else list(parameter.shape)
        for name, parameter in _trained(network).items()
        for kind in _KINDS[type(optimizer).__name__]
    }


def restore_optimizer(
    network: paddle.nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    arrays: Mapping[str, NDArray[np.float32]],
    schedule_state: Mapping[str, Any],
    *,
    without: frozenset[str] = frozenset(),
) -> None:
    """Restore the state of the optimizer and its learning rate schedule.

    Args:
        network: network that the optimizer was built for.
        optimizer: optimizer to restore.
        arrays: saved values of `optimizer_tensors`. Empty if the checkpoint set was saved before the first step.
        schedule_state: saved `state_dict` of the learning rate schedule.
        without: names of parameters that have no state because they have been frozen so far.

    Raises:
        CheckpointError: if the names or shapes of the arrays do not match the network and the optimizer.
    """
    shapes = optimizer_shapes(network, optimizer) if arrays else {}
    expected = {key: shape for key, shape in shapes.items() if key.rpartition("/")[0] not in without}
    wrong = sorted(expected.keys() ^ arrays.keys()) or sorted(
        key for key, shape in expected.items() if list(arrays[key].shape) != shape
    )
    if wrong:
        raise CheckpointError(
            f"the optimizer's state is from another network or optimizer: {len(wrong)} tensors differ: "
            f"{', '.join(wrong[:3])}; set training.arch and training.optimizer to the checkpoint's values"
        )
    known = _keys_by_stem(optimizer.state_dict())
    restored: dict[str, Any] = {"LR_Scheduler": dict(schedule_state)}
    for name, parameter in _trained(network).items() if arrays else ():
        for kind in _KINDS[type(optimizer).__name__]:
            stem, key = f"{parameter.name}_{kind}", f"{name}/{kind}"
            # Once any state is set, Paddle no longer creates a parameter's missing state at its first step.
            array = arrays[key] if key in expected else _initial_state(optimizer, kind, shapes[key])
            restored[known.get(stem) or _next_key(stem)] = paddle.to_tensor(array)
    optimizer.set_state_dict(restored)


def _initial_state(optimizer: paddle.optimizer.Optimizer, kind: str, shape: list[int]) -> NDArray[np.float32]:
    """Return the state of a parameter before its first step, as Paddle would create it."""
    start = {"beta1_pow_acc": "_beta1", "beta2_pow_acc": "_beta2"}.get(kind)
    return np.full(shape, 0.0 if start is None else getattr(optimizer, start), dtype=np.float32)


def _trained(network: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    return {name: parameter for name, parameter in network.named_parameters() if not parameter.stop_gradient}


def _keys_by_stem(state: Mapping[str, Any]) -> dict[str, str]:
    """Map each key without its counter to Paddle's key: `linear_0.w_0_velocity` → `linear_0.w_0_velocity_0`."""
    return {key.rpartition("_")[0]: key for key in state}


def _next_key(name: str) -> str:
    """Return the key for state that Paddle creates at the first step: `name` followed by the next counter value."""
    # This call increments the counter, so the state will get the number after this one.
    taken = unique_name.generate(name)
    stem, _, number = taken.rpartition("_")
    return f"{stem}_{int(number) + 1}"
