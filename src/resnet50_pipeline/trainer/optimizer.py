"""Optimizers and learning rate schedules by PaddleClas' names, stepped once an iteration."""

from __future__ import annotations

import paddle
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
