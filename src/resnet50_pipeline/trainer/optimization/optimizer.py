"""Builds PaddleClas' optimizers and learning rate schedules."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

import paddle
from paddle.optimizer.lr import LRScheduler

from resnet50_pipeline.recipe.optimization import (
    AdamWConfig,
    Cosine,
    Linear,
    MomentumConfig,
    OptimizerConfig,
    Piecewise,
)

ScheduleConfig = Piecewise | Cosine | Linear


class Schedule(LRScheduler):
    """Computes the learning rate from the number of finished steps. It has no other state, so resuming is exact."""

    def __init__(self, rate: Callable[[int], float]) -> None:
        self._rate = rate
        super().__init__(learning_rate=rate(0))

    def get_lr(self) -> float:
        """Return the learning rate of the next step."""
        return self._rate(self.last_epoch)  # Paddle's name, even though it counts steps here


def build_schedule(config: ScheduleConfig, epochs: int, steps_per_epoch: int) -> Schedule:
    """Return a learning rate schedule as defined in `ppcls/optimizer/learning_rate.py`.

    Call `step()` after each optimizer step, even if `by_epoch` is true. During the first `warmup_epoch` epochs, the
    rate rises linearly from `warmup_start_lr`. After the warm-up, Cosine and Linear span the rest of the run. As in
    upstream, the warm-up shifts the boundaries of Piecewise.
    """
    steps_per_unit = steps_per_epoch if config.by_epoch else 1
    units_per_epoch = steps_per_epoch // steps_per_unit
    warm_up = config.warmup_epoch * units_per_epoch
    after, peak = _after_warm_up(config, (epochs - config.warmup_epoch) * units_per_epoch, units_per_epoch)

    def rate(step: int) -> float:
        unit = step // steps_per_unit
        if unit < warm_up:
            return config.warmup_start_lr + (peak - config.warmup_start_lr) * unit / warm_up
        return after(unit - warm_up)

    return Schedule(rate)


def _after_warm_up(config: ScheduleConfig, length: int, units_per_epoch: int) -> tuple[Callable[[int], float], float]:
    """Return the rate as a function of the time since the warm-up, and the rate at the end of the warm-up.

    Time is measured in units: epochs if `by_epoch` is true, and steps otherwise.
    """
    if isinstance(config, Piecewise):
        values, boundaries = config.values, [epoch * units_per_epoch for epoch in config.decay_epochs]
        return lambda unit: values[bisect_right(boundaries, unit)], values[0]
    peak = config.learning_rate
    if isinstance(config, Cosine):
        low = config.eta_min
        return lambda unit: low + (peak - low) * (1 + math.cos(math.pi * unit / length)) / 2, peak
    end, power = config.end_lr, config.power
    return lambda unit: end + (peak - end) * (1 - min(unit, length) / length) ** power, peak


def build_optimizer(
    config: OptimizerConfig, schedule: LRScheduler, network: paddle.nn.Layer, *, all_at_once: bool = True
) -> paddle.optimizer.Optimizer:
    """Return the optimizer for the network's trainable parameters (`ppcls/optimizer/optimizer.py`).

    Unlike upstream, Momentum supports `no_weight_decay_name` and `one_dim_param_no_weight_decay` independently.
    Upstream's Momentum ignores the second option unless the first option is set, and in that case applies no weight
    decay at all.

    Args:
        config: the optimizer and its settings.
        schedule: the learning rate schedule.
        network: the network to train.
        all_at_once: whether every step updates all parameters, which lets Momentum use one kernel for all of them.
    """
    clip = paddle.nn.ClipGradByNorm(config.clip_norm) if config.clip_norm is not None else None
    trained = {name: p for name, p in network.named_parameters() if not p.stop_gradient}
    without_decay = {name for name, p in trained.items() if not _has_decay(config, name, p)}
    if isinstance(config, AdamWConfig):
        paddle_names = {trained[name].name for name in without_decay}
        return paddle.optimizer.AdamW(
            learning_rate=schedule,
            beta1=config.beta1,
            beta2=config.beta2,
            epsilon=config.epsilon,
            parameters=list(trained.values()),
            weight_decay=config.weight_decay,
            apply_decay_param_fun=lambda name: name not in paddle_names,
            grad_clip=clip,
        )
    return _build_momentum(config, schedule, trained, without_decay, clip, all_at_once=all_at_once)


def _build_momentum(
    config: MomentumConfig,
    schedule: LRScheduler,
    trained: dict[str, paddle.Tensor],
    without_decay: set[str],
    clip: paddle.nn.ClipGradByNorm | None,
    *,
    all_at_once: bool,
) -> paddle.optimizer.Optimizer:
    # Unlike upstream, do not use parameter groups. Paddle's groups ignore the factors in lr_mult_list
    # (`_add_param_group` in paddle/optimizer/optimizer.py). Upstream also builds the optimizer twice from the same
    # groups, and the first build removes the weight decay from them (ppcls/optimizer/optimizer.py).
    decay, none = paddle.regularizer.L2Decay(config.l2_coeff), paddle.regularizer.L2Decay(0.0)
    for name, parameter in trained.items():
        parameter.regularizer = none if name in without_decay else decay
    return paddle.optimizer.Momentum(
        learning_rate=schedule,
        momentum=config.momentum,
        parameters=list(trained.values()),
        use_nesterov=config.use_nesterov,
        grad_clip=clip,
        use_multi_tensor=all_at_once,  # one kernel for all weights, with bit-identical results
    )


def _has_decay(config: OptimizerConfig, name: str, parameter: paddle.Tensor) -> bool:
    if config.one_dim_param_no_weight_decay and len(parameter.shape) == 1:
        return False
    return not any(part in name for part in (config.no_weight_decay_name or "").split())
