"""Collects what a rank measures besides loss and accuracy, and combines the values of all ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.recipe.run import GlobalConfig
from resnet50_pipeline.trainer.meters import Totals
from resnet50_pipeline.trainer.monitoring.clock import PHASES, StepClock
from resnet50_pipeline.trainer.monitoring.memory import read_memory
from resnet50_pipeline.trainer.monitoring.profiling import StepProfiler
from resnet50_pipeline.trainer.monitoring.stragglers import RankSeconds, StragglerWatch, split_step
from resnet50_pipeline.trainer.monitoring.updates import UpdateMonitor
from resnet50_pipeline.trainer.ranks import Ranks


class Monitor:
    """A rank's clock, its memory use and its weight updates.

    All ranks make the same updates, so only rank 0 measures them.
    """

    def __init__(self, network: paddle.nn.Layer, ranks: Ranks, config: GlobalConfig) -> None:
        self.clock = StepClock(ranks.device)
        self._stragglers = StragglerWatch()
        self._device = ranks.device
        self._updates = UpdateMonitor(network, with_ratios=config.update_ratios) if ranks.is_first else None
        self._measured: UpdateMonitor | None = None
        self._profiler: StepProfiler | None = None
        if ranks.is_first and config.profile_steps is not None:
            self._profiler = StepProfiler(Path(config.output_dir), ranks.device, *config.profile_steps)

    def start_batch(self, step: int, *, is_reported: bool) -> None:
        """Start a batch of a step. Either all batches of a step are reported, or none are."""
        self.clock.start_batch(is_reported=is_reported)
        self._measured = self._updates if is_reported else None
        if self._profiler is not None:
            self._profiler.before_batch(step)

    def before_update(self) -> None:
        """Measure the final gradients of a reported step. Not called if the optimizer skips the step."""
        if self._measured is not None:
            self._measured.before_update()

    def after_update(self) -> None:
        """Measure the updated weights of a reported step."""
        if self._measured is not None:
            self._measured.after_update()

    def finish_step(self, step: int) -> None:
        """Count a step after its last batch."""
        self.clock.finish_step()
        if self._profiler is not None:
            self._profiler.after_step(step)

    def finish(self) -> None:
        """Write the profile of a run that ends before the last step to profile."""
        if self._profiler is not None:
            self._profiler.finish()

    def close_interval(self) -> list[float]:
        """Return this rank's values for `describe`: seconds of each phase, current and highest memory use."""
        return [*self.clock.close(), *(read_memory(self._device) or (0, 0))]

    def find_stragglers(self, ranks: NDArray[np.float64], interval: Totals) -> list[str]:
        """Return a warning for each rank that has become slower than the others.

        Args:
            ranks: result of `close_interval` for each rank.
            interval: totals of the interval.
        """
        times = _split_step(ranks, interval)
        return [] if times is None else self._stragglers.add(times, interval.seconds)

    def describe(self, ranks: NDArray[np.float64], interval: Totals) -> dict[str, Any]:
        """Return the fields of a `train_step` event. Waits for the device.

        Args:
            ranks: result of `close_interval` for each rank.
            interval: totals of the interval.
        """
        times = _split_step(ranks, interval)
        norm, ratios = (None, {}) if self._updates is None else self._updates.read()
        seconds, memory = ranks[:, : len(PHASES)].mean(axis=0), ranks[:, len(PHASES) :].max(axis=0)
        return {
            "gradient_norm": norm,
            "update_ratios": ratios,
            "phase_seconds": {phase: float(mean) for phase, mean in zip(PHASES, seconds, strict=True) if mean > 0},
            "rank_seconds": {} if times is None else times.describe(),
            "memory_bytes": int(memory[0]) or None,
            "peak_memory_bytes": int(memory[1]) or None,
        }


def _split_step(ranks: NDArray[np.float64], interval: Totals) -> RankSeconds | None:
    """Return the times of each rank, or None if there is only one rank or no time was measured."""
    if len(ranks) == 1 or interval.steps == 0:
        return None
    loading, forward = (ranks[:, PHASES.index(phase)] for phase in ("load", "forward"))
    return split_step(loading, forward, interval.seconds_per_step)
