"""Optimizers and learning rate schedules by PaddleClas' names, stepped once an iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle.optimizer import lr

from resnet50_pipeline.training_config import Cosine, OptimizerConfig, Piecewise


def build_schedule(config: Piecewise | Cosine, epochs: int, steps_per_epoch: int) -> lr.LRScheduler:
    """Return the schedule of `ppcls/optimizer/learning_rate.py`; one `step()` an iteration.

    The first `warmup_epoch` epochs rise linearly from `warmup_start_lr`; what follows counts its own steps from the
    end of the warm-up (Cosine) or from there too (Piecewise: as upstream, whose boundaries shift by the warm-up).
    """
    warmup_steps = config.warmup_epoch * steps_per_epoch
    schedule: lr.LRScheduler
    if isinstance(config, Piecewise):
        peak = config.values[0]
        schedule = lr.PiecewiseDecay(
            boundaries=[epoch * steps_per_epoch for epoch in config.decay_epochs], values=list(config.values)
        )
    else:
        peak = config.learning_rate
        schedule = lr.CosineAnnealingDecay(
            learning_rate=peak, T_max=epochs * steps_per_epoch - warmup_steps, eta_min=config.eta_min
        )
    if warmup_steps:
        schedule = lr.LinearWarmup(
            learning_rate=schedule, warmup_steps=warmup_steps, start_lr=config.warmup_start_lr, end_lr=peak
        )
    return schedule


def build_optimizer(
    config: OptimizerConfig, schedule: lr.LRScheduler, network: paddle.nn.Layer
) -> paddle.optimizer.Optimizer:
    """Return Momentum with L2 on every weight."""
    return paddle.optimizer.Momentum(
        learning_rate=schedule,
        momentum=config.momentum,
        parameters=network.parameters(),
        weight_decay=paddle.regularizer.L2Decay(config.regularizer.coeff),
    )


_VELOCITY = "_velocity_0"


def optimizer_arrays(network: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, NDArray[np.generic]]:
    """Return the velocities by parameter name; Paddle's own keys depend on what else the process has built."""
    state = optimizer.state_dict()
    return {
        name: np.ascontiguousarray(state[parameter.name + _VELOCITY].numpy())
        for name, parameter in network.named_parameters()
        if parameter.name + _VELOCITY in state
    }


def restore_optimizer(
    network: paddle.nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    arrays: Mapping[str, NDArray[np.generic]],
    schedule: Mapping[str, Any],
) -> None:
    """Set what `optimizer_arrays` returned, and the schedule's position."""
    restored: dict[str, Any] = {
        parameter.name + _VELOCITY: paddle.to_tensor(arrays[name])
        for name, parameter in network.named_parameters()
        if not parameter.stop_gradient  # BatchNorm's running statistics are parameters to Paddle, but nobody moves them
    }
    optimizer.set_state_dict({**restored, "LR_Scheduler": dict(schedule)})
