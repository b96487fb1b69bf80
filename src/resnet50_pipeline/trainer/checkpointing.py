"""Saves a run's checkpoint sets, and reports each set once it is on disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from resnet50_pipeline.checkpoint_set import Snapshot, TrainingState
from resnet50_pipeline.events import CheckpointSaved
from resnet50_pipeline.trainer.checkpoints.saver import CheckpointSaver
from resnet50_pipeline.trainer.step import Stepper


class Checkpointing:
    """Saves at most one checkpoint set per step. Every rank has an instance, but only rank 0 writes sets."""

    def __init__(
        self,
        stepper: Stepper,
        saver: CheckpointSaver | None,
        emit: Callable[[CheckpointSaved], None],
        resumed_from: TrainingState | None = None,
    ) -> None:
        """Store the arguments.

        Args:
            stepper: network and optimizer to save.
            saver: writes the sets on rank 0. None on all other ranks.
            emit: called with an event for each written set.
            resumed_from: state from which the run was resumed exactly, or None. This state is not saved again.
        """
        self._stepper, self._saver, self._emit = stepper, saver, emit
        self._last = None if resumed_from is None else (resumed_from.epoch, resumed_from.step)

    def save(self, state: TrainingState, *, is_best: bool) -> None:
        """Start writing a set, unless a set has already been saved for this position.

        Raises:
            CheckpointError: if the previous set could not be written.
        """
        # The step alone is not enough: at the end of an epoch, the sets before and after the evaluation differ.
        position = (state.epoch, state.step)
        if position == self._last:
            return
        self._last = position
        if self._saver is None:
            return
        started = time.perf_counter()
        # The snapshot overwrites the host memory of the previous set, so that set must have been written first.
        self.report(wait=True)
        snapshot = Snapshot(replace(state, **self._stepper.values()), self._stepper.files())
        self._saver.save(snapshot, is_best=is_best, stall_seconds=time.perf_counter() - started)

    def report(self, *, wait: bool = False) -> None:
        """Emit the event for a set that was written but not yet reported.

        If `wait` is true, first wait until the set in progress, if any, has been written.

        Raises:
            CheckpointError: if the set could not be written.
        """
        if self._saver is not None and (event := self._saver.wait() if wait else self._saver.written()):
            self._emit(event)
