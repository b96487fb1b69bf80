"""Saves a run's checkpoint sets, and reports each set once it is on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from resnet50_pipeline.checkpoint_set import MARGINS, Snapshot, TrainingState
from resnet50_pipeline.events import CheckpointSaved, ReplicasDiffer, WarningRaised, read_events
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.checkpoints.margins import Margins
from resnet50_pipeline.trainer.checkpoints.resume import ResumePoint
from resnet50_pipeline.trainer.checkpoints.saver import CheckpointSaver
from resnet50_pipeline.trainer.monitoring.replicas import ReplicaCheck
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.step import Stepper
from resnet50_pipeline.training_dir import events_path


class Checkpointing:
    """Saves at most one checkpoint set per step. Every rank has an instance, but only rank 0 writes sets."""

    def __init__(
        self,
        stepper: Stepper,
        saver: CheckpointSaver | None,
        emit: Callable[[CheckpointSaved], None],
        replicas: ReplicaCheck,
        *,
        resumed_from: TrainingState | None = None,
        margins: Margins | None = None,
    ) -> None:
        """Set up saving for this rank.

        Args:
            stepper: network and optimizer to save.
            saver: writes the sets on rank 0. None on all other ranks.
            emit: called with an event for each written set.
            replicas: compares the ranks before each set.
            resumed_from: state that the run resumed from exactly, or None. This state is not saved again.
            margins: margins to save, or None if they are not recorded.
        """
        self._stepper, self._saver, self._emit = stepper, saver, emit
        self._replicas, self._margins = replicas, margins
        self._last = None if resumed_from is None else (resumed_from.epoch, resumed_from.step)

    def save(self, state: TrainingState, *, is_best: bool) -> None:
        """Start writing a set, unless a set has already been saved for this position. All ranks must call this method.

        Raises:
            CheckpointError: if the previous set could not be written.
            ReplicasDifferError: if the ranks do not have the same weights.
        """
        # The step alone is not enough: at the end of an epoch, the sets before and after the evaluation differ.
        position = (state.epoch, state.step)
        if position == self._last:
            return
        self._last = position
        started = time.perf_counter()
        self._replicas.require_equal(state.step)
        margins = None if self._margins is None else self._margins.combine()
        if self._saver is None:
            return
        # The snapshot overwrites the host memory of the previous set, so wait until that set is on disk.
        self.report(wait=True)
        files: dict[str, Mapping[str, NDArray[Any]]] = {**self._stepper.files()}
        if margins is not None:
            files[MARGINS] = margins
        snapshot = Snapshot(replace(state, **self._stepper.values()), files)
        self._saver.save(snapshot, is_best=is_best, stall_seconds=time.perf_counter() - started)

    def report(self, *, wait: bool = False) -> None:
        """Emit the event for a set that was written but not yet reported.

        If `wait` is true, wait for the set in progress first.

        Raises:
            CheckpointError: if the set could not be written.
        """
        if self._saver is not None and (event := self._saver.wait() if wait else self._saver.written()):
            self._emit(event)


def start_replica_check(
    config: TrainingConfig,
    ranks: Ranks,
    stepper: Stepper,
    emit: Callable[[ReplicasDiffer | WarningRaised], None],
    start: ResumePoint,
) -> ReplicaCheck:
    """Return the comparison of the ranks for a run that begins at `start`."""
    earlier = None
    if ranks.is_first and config.Global.checkpoints and start.is_exact:
        events = read_events(events_path(Path(config.Global.output_dir)))
        found = [event for event in events if isinstance(event, ReplicasDiffer)]
        last = found[-1] if found else None
        if last is not None and last.step > start.state.step and len(last.digests) == ranks.count:
            # A later step cannot be used, because by then the error has spread to the states of all ranks.
            earlier = last if last.step == last.verified_step + 1 else None
    return ReplicaCheck(
        config.Global.replica_check_interval,
        ranks,
        stepper.replicated,
        emit,
        first_step=start.state.step,
        earlier=earlier,
    )
