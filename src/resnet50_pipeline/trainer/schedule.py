"""Learning rates by PaddleClas' names: pure functions of the number of finished optimizer steps."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

from paddle.optimizer.lr import LRScheduler

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.training_config import Cosine, Linear, Piecewise

ScheduleConfig = Piecewise | Cosine | Linear


def steps_per_epoch(batches: int, update_freq: int) -> int:
    """Return the optimizer steps of an epoch of so many batches; as upstream, batches left over are not trained on.

    Raises:
        TrainingConfigError: an epoch has not even one step.
    """
    if batches < update_freq:
        raise TrainingConfigError(
            f"Global.update_freq: {update_freq} batches make a step, but an epoch has only {batches} a rank; lower it, "
            f"or the batch size"
        )
    return batches // update_freq


class Schedule(LRScheduler):
    """A rate for every number of finished steps; its state is that number, so resuming is exact."""

    def __init__(self, rate: Callable[[int], float]) -> None:
        self._rate = rate
        super().__init__(learning_rate=rate(0))

    def get_lr(self) -> float:
        """Return the rate of the next step."""
        return self._rate(self.last_epoch)  # Paddle's word for a scheduler's position, whatever its unit


def build_schedule(config: ScheduleConfig, epochs: int, steps_per_epoch: int) -> Schedule:
    """Return the schedule of `ppcls/optimizer/learning_rate.py`; one `step()` an optimizer step, `by_epoch` or not.

    The first `warmup_epoch` epochs rise linearly from `warmup_start_lr`. What follows counts from their end: half a
    cosine or a line over what is left of the run, or (as upstream) boundaries that are shifted by the warm-up.
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
    """Return the rate by units since the warm-up, and the one that the warm-up rises to."""
    if isinstance(config, Piecewise):
        values, boundaries = config.values, [epoch * units_per_epoch for epoch in config.decay_epochs]
        return lambda unit: values[bisect_right(boundaries, unit)], values[0]
    peak = config.learning_rate
    if isinstance(config, Cosine):
        low = config.eta_min
        return lambda unit: low + (peak - low) * (1 + math.cos(math.pi * unit / length)) / 2, peak
    end, power = config.end_lr, config.power
    return lambda unit: end + (peak - end) * (1 - min(unit, length) / length) ** power, peak
