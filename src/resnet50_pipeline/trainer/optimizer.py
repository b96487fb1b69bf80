"""Optimizers by PaddleClas' names, and their state by the names of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle.optimizer.lr import LRScheduler
from paddle.utils import unique_name

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.training_config import AdamWConfig, MomentumConfig, OptimizerConfig


def build_optimizer(
    config: OptimizerConfig, schedule: LRScheduler, network: paddle.nn.Layer
) -> paddle.optimizer.Optimizer:
    """Return the optimizer of the network's trainable parameters (`ppcls/optimizer/optimizer.py`).

    `no_weight_decay_name` and `one_dim_param_no_weight_decay` do what they say, each on its own, also for Momentum;
    upstream's obeys the second only beside the first, and then has no decay at all.
    """
    clip = paddle.nn.ClipGradByNorm(config.clip_norm) if config.clip_norm is not None else None
    trained = {name: p for name, p in network.named_parameters() if not p.stop_gradient}
    spared = {name for name, p in trained.items() if _is_spared(config, name, p)}
    if isinstance(config, AdamWConfig):
        without = {trained[name].name for name in spared}
        return paddle.optimizer.AdamW(
            learning_rate=schedule,
            beta1=config.beta1,
            beta2=config.beta2,
            epsilon=config.epsilon,
            parameters=list(trained.values()),
            weight_decay=config.weight_decay,
            apply_decay_param_fun=lambda name: name not in without,
            grad_clip=clip,
        )
    return _build_momentum(config, schedule, trained, spared, clip)


def _build_momentum(
    config: MomentumConfig,
    schedule: LRScheduler,
    trained: dict[str, paddle.Tensor],
    spared: set[str],
    clip: paddle.nn.ClipGradByNorm | None,
) -> paddle.optimizer.Optimizer:
    # Not by parameter groups, as upstream: Paddle's groups forget the factors of lr_mult_list (`_add_param_group` of
    # paddle/optimizer/optimizer.py), and upstream builds the optimizer from the same groups twice, of which Momentum
    # takes the decay out the first time, so that there is none at all (ppcls/optimizer/optimizer.py).
    decay, none = paddle.regularizer.L2Decay(config.regularizer.coeff), paddle.regularizer.L2Decay(0.0)
    for name, parameter in trained.items():
        parameter.regularizer = none if name in spared else decay
    return paddle.optimizer.Momentum(
        learning_rate=schedule,
        momentum=config.momentum,
        parameters=list(trained.values()),
        use_nesterov=config.use_nesterov,
        grad_clip=clip,
        use_multi_tensor=True,  # one kernel for all weights; the same numbers, bit by bit
    )


def _is_spared(config: OptimizerConfig, name: str, parameter: paddle.Tensor) -> bool:
    if config.one_dim_param_no_weight_decay and len(parameter.shape) == 1:
        return True
    return any(part in name for part in (config.no_weight_decay_name or "").split())


def optimizer_tensors(network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, paddle.Tensor]:
    """Return what the optimizer remembers, by `<parameter>/<kind>`, as `fc.weight/velocity` or `fc.weight/moment1`.

    Paddle's own keys depend on what else the process has built. Empty before the first step.
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
    """Return the shapes of what `optimizer_tensors` gives after the first step: the parameter's own, or one number."""
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
) -> None:
    """Go on from the values of `optimizer_tensors` and what the schedule's `state_dict` returned.

    Raises:
        CheckpointError: a tensor is of no trainable parameter, of another optimizer or shape, or missing.
    """
    expected = optimizer_shapes(network, optimizer) if arrays else {}
    wrong = sorted(expected.keys() ^ arrays.keys()) or sorted(
        key for key, shape in expected.items() if list(arrays[key].shape) != shape
    )
    if wrong:
        raise CheckpointError(
            f"the optimizer's state is not of this network and optimizer, {len(wrong)} tensors differ: "
            f"{', '.join(wrong[:3])}; are Arch and Optimizer those that it was trained with?"
        )
    known = _keys_by_stem(optimizer.state_dict())
    restored: dict[str, Any] = {"LR_Scheduler": dict(schedule_state)}
    for name, parameter in _trained(network).items() if arrays else ():
        for kind in _KINDS[type(optimizer).__name__]:
            stem = f"{parameter.name}_{kind}"
            restored[known.get(stem) or _coming_key(stem)] = paddle.to_tensor(arrays[f"{name}/{kind}"])
    optimizer.set_state_dict(restored)


# What Paddle's optimizers keep for each parameter.
_KINDS = {
    "Momentum": ("velocity",),
    "AdamW": ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc"),
}


def _trained(network: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    return {name: parameter for name, parameter in network.named_parameters() if not parameter.stop_gradient}


def _keys_by_stem(state: Mapping[str, Any]) -> dict[str, str]:
    """Return Paddle's keys without their last number: `{"linear_0.w_0_velocity": "linear_0.w_0_velocity_0"}`."""
    return {key.rpartition("_")[0]: key for key in state}


def _coming_key(name: str) -> str:
    """Return the key that Paddle will give to state that it has yet to make: the name with the next free number."""
    taken = unique_name.generate(name)
    stem, _, number = taken.rpartition("_")
    return f"{stem}_{int(number) + 1}"
