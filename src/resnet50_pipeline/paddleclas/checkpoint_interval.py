"""Computes the interval between checkpoint sets that minimizes lost time.

A run loses time in two ways. Each set pauses training for C seconds. A failure, expected once every M seconds, costs
half an interval of T seconds on average. The fraction of time lost is C / T + T / (2 M), which is smallest for
T = sqrt(2 C M) (J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974;
J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22(3), 2006). The time
needed to restart after a failure does not depend on the interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from resnet50_pipeline.events import AnyEvent, CheckpointSaved, Started, TrainStep
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.text import pluralize

_SECONDS_PER_DAY = 86_400
_MIN_SETS = 3
"""Number of sets to measure before a run logs the interval. The first set may be slower than the others."""


@dataclass(frozen=True)
class SaveCosts:
    """The costs of saving that a training run has measured.

    Attributes:
        stall_seconds: median time for which a set pauses training.
        step_seconds: median duration of a step.
        steps_per_epoch: steps per epoch.
        epochs: number of epochs.
    """

    stall_seconds: float
    step_seconds: float
    steps_per_epoch: int
    epochs: int


@dataclass(frozen=True)
class SaveInterval:
    """The interval that minimizes lost time, and the configured interval.

    Attributes:
        steps: best number of steps between sets, at least 1.
        seconds: duration of these steps.
        loss: fraction of time lost with this interval, 0..1.
        current_steps: configured number of steps between sets.
        current_loss: fraction of time lost with the configured interval.
    """

    steps: int
    seconds: float
    loss: float
    current_steps: int
    current_loss: float

    def describe(self, costs: SaveCosts, training: TrainingParameters) -> str:
        """Describe both intervals and the figures that they are computed from."""
        days = training.launch.days_between_failures / training.launch.machines
        return (
            f"saving a set every {pluralize(self.steps, 'step')} ({self.seconds:.0f} s) minimizes lost time "
            f"({self.loss:.2%}); the configured interval of {pluralize(self.current_steps, 'step')} loses "
            f"{self.current_loss:.2%}. A set pauses training for {1000 * costs.stall_seconds:.0f} ms, and a "
            f"failure is expected every {days:.3g} days"
        )


def measure_costs(events: Iterable[AnyEvent]) -> SaveCosts | None:
    """Return the costs that a training run has measured, or None if it has not saved a set or reported a step."""
    stalls, steps, started = [], [], None
    for event in events:
        match event:
            case Started():
                started = event
            case TrainStep():
                steps.append(event.batch_seconds)
            case CheckpointSaved():
                stalls.append(event.stall_seconds)
    if started is None or not stalls or not steps:
        return None
    return SaveCosts(statistics.median(stalls), statistics.median(steps), started.steps_per_epoch, started.epochs)


def find_best_interval(costs: SaveCosts, training: TrainingParameters) -> SaveInterval:
    """Return the interval that minimizes lost time. A failure of any machine ends the run."""
    between_failures = training.launch.days_between_failures * _SECONDS_PER_DAY / training.launch.machines

    def loss(steps: int) -> float:
        seconds = steps * costs.step_seconds
        return costs.stall_seconds / seconds + seconds / (2 * between_failures)

    best = max(1, round(math.sqrt(2 * costs.stall_seconds * between_failures) / costs.step_seconds))
    current = training.save_interval * costs.steps_per_epoch
    if training.save_interval_steps:
        current = min(current, training.save_interval_steps)
    return SaveInterval(best, best * costs.step_seconds, loss(best), current, loss(current))


class IntervalAdvice:
    """Describes the best interval once, after the first sets of a run that is longer than this interval."""

    def __init__(self, training: TrainingParameters) -> None:
        self._training, self._events, self._sets = training, list[AnyEvent](), 0

    def add(self, event: AnyEvent) -> str | None:
        """Return the description if this event completes the measurement, and None otherwise."""
        if self._sets == _MIN_SETS:
            return None
        if isinstance(event, Started | TrainStep | CheckpointSaved):
            self._events.append(event)
        self._sets += isinstance(event, CheckpointSaved)
        if self._sets < _MIN_SETS or (costs := measure_costs(self._events)) is None:
            return None
        self._events.clear()
        best = find_best_interval(costs, self._training)
        is_short = best.steps >= costs.epochs * costs.steps_per_epoch
        return None if is_short else best.describe(costs, self._training)
