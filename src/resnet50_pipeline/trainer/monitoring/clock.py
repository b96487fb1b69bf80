"""Measures how long each phase of a step takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

import paddle

Phase = Literal["load", "forward", "backward", "reduce", "optimizer", "checkpoint"]
PHASES: Final[tuple[Phase, ...]] = ("load", "forward", "backward", "reduce", "optimizer", "checkpoint")
# These phases run on the host, so they can be timed without waiting for the device.
_HOST_PHASES = ("load", "checkpoint")


class StepClock:
    """Sums the seconds spent in each phase since the last call to `close()`.

    On a CPU, every step is measured. Other devices run asynchronously, so the time of a phase is known only if the host
    waits for the device before and after the phase. On such devices, only reported steps are measured.

    With `paddle.DataParallel`, gradients are reduced during the backward pass, and `backward` includes `reduce`.
    """

    def __init__(
        self,
        device: str,
        now: Callable[[], float] = time.perf_counter,
        synchronize: Callable[[], None] = paddle.device.synchronize,
    ) -> None:
        self._is_asynchronous = device != "cpu"
        self._now, self._synchronize = now, synchronize
        self._is_measuring = False
        self._reset()

    def start_batch(self, *, is_reported: bool) -> None:
        """Start a batch. `is_reported` says whether this batch's step is reported."""
        self._is_measuring = is_reported or not self._is_asynchronous

    def finish_step(self) -> None:
        """Count a step. Call this after the last batch of the step."""
        self._steps += 1
        self._measured_steps += self._is_measuring

    def add(self, phase: Phase, seconds: float) -> None:
        """Add time that the host has spent in a phase."""
        self._seconds[phase] += seconds

    @contextlib.contextmanager
    def measure(self, phase: Phase) -> Iterator[None]:
        """Add the time of the block to a phase, if the current step is measured."""
        if not self._is_measuring:
            yield
            return
        started = self._read()
        yield
        self._seconds[phase] += self._read() - started

    def close(self) -> list[float]:
        """Return the mean seconds per step of each phase, in the order of `PHASES`, and start again from zero."""
        steps, measured = max(self._steps, 1), max(self._measured_steps, 1)
        means = [self._seconds[phase] / (steps if phase in _HOST_PHASES else measured) for phase in PHASES]
        self._reset()
        return means

    def _reset(self) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._steps = self._measured_steps = 0

    def _read(self) -> float:
        if self._is_asynchronous:
            self._synchronize()
        return self._now()
