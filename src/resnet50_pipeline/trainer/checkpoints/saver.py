"""Writes checkpoint sets in a thread while training continues."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from resnet50_pipeline.checkpoint_set import (
    WEIGHTS,
    Snapshot,
    delete_leftovers,
    mark_best,
    prune_checkpoints,
    save_checkpoint,
)
from resnet50_pipeline.events import CheckpointSaved
from resnet50_pipeline.exceptions import NonFiniteLossError
from resnet50_pipeline.text import list_names
from resnet50_pipeline.training_dir import checkpoints_dir

_NAMED = 3


class CheckpointSaver:
    """Writes one checkpoint set at a time in a background thread. Only rank 0 has a saver."""

    def __init__(self, output_dir: Path, keep: int) -> None:
        self._output_dir, self._keep = output_dir, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-saver")
        self._pending: Future[CheckpointSaved] | None = None
        delete_leftovers(output_dir)

    def save(self, snapshot: Snapshot, *, is_best: bool, stall_seconds: float) -> None:
        """Start writing a set. Call `wait` first, because the snapshots of all sets share the same memory.

        Serialization needs a second copy of the arrays. If there is not enough memory for both this copy and a training
        step, this method waits until the set is written.

        Args:
            snapshot: content of the set.
            is_best: whether this set is the best so far. If so, the set is recorded in `best.json`.
            stall_seconds: how long training was paused to take the snapshot.
        """
        started = time.perf_counter()
        waits = psutil.virtual_memory().available < 2 * snapshot.bytes
        self._pending = self._thread.submit(self._write, snapshot, is_best, stall_seconds, started, waits=waits)
        if waits:
            self._pending.exception()  # waits; the next call to `written` or `wait` re-raises any error

    def written(self) -> CheckpointSaved | None:
        """Return the event for a set that was written since the last call, or None if there is none.

        Raises:
            CheckpointError: if the set could not be written.
            NonFiniteLossError: if the set was not written because a weight is NaN or infinite.
        """
        if self._pending is None or not self._pending.done():
            return None
        return self.wait()

    def wait(self) -> CheckpointSaved | None:
        """Wait for the set in progress and return its event. Return None if no set is in progress.

        Raises:
            CheckpointError: if the set could not be written.
            NonFiniteLossError: if the set was not written because a weight is NaN or infinite.
        """
        pending, self._pending = self._pending, None
        return None if pending is None else pending.result()

    def _write(
        self, snapshot: Snapshot, is_best: bool, stall_seconds: float, started: float, *, waits: bool
    ) -> CheckpointSaved:
        require_finite_weights(snapshot)
        path = checkpoints_dir(self._output_dir) / snapshot.name
        # `best.json` must refer to an existing set even if the process is killed. Complete the new set before recording
        # it, and delete the previous best set only after that.
        save_checkpoint(path, snapshot)
        if is_best:
            mark_best(self._output_dir, snapshot.state)
        prune_checkpoints(self._output_dir, self._keep, snapshot.state.best_epoch)
        seconds = time.perf_counter() - started + stall_seconds
        return CheckpointSaved(
            epoch=snapshot.state.epoch,
            step=snapshot.state.step,
            path=str(path.relative_to(self._output_dir)),
            seconds=seconds,
            stall_seconds=seconds if waits else stall_seconds,
            is_best=is_best,
        )


def require_finite_weights(snapshot: Snapshot) -> None:
    """Check that all weights are finite.

    The loss of a step is computed before the weights change, so it is finite in the step in which they overflow.

    Raises:
        NonFiniteLossError: if a weight is NaN or infinite.
    """
    names = [name for name, array in snapshot.files[WEIGHTS].items() if not np.isfinite(array).all()]
    if names:
        state = snapshot.state
        raise NonFiniteLossError(
            f"weights are NaN or infinite after step {state.step} (epoch {state.epoch + bool(state.step_in_epoch)}): "
            f"{list_names(names, _NAMED)}. The checkpoint set was not written, and earlier sets are kept. Lower "
            "training.lr or lengthen the warm-up, then start from scratch"
        )
