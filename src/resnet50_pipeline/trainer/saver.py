"""Writes checkpoint sets while the training goes on."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil

from resnet50_pipeline.checkpoint_set import Snapshot, delete_leftovers, mark_best, prune_checkpoints, save_checkpoint
from resnet50_pipeline.events import CheckpointSaved
from resnet50_pipeline.training_dir import checkpoints_dir


class CheckpointSaver:
    """One thread that writes one set at a time; only rank 0 has one."""

    def __init__(self, output_dir: Path, keep: int) -> None:
        self._output_dir, self._keep = output_dir, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-saver")
        self._pending: Future[CheckpointSaved] | None = None
        delete_leftovers(output_dir)

    def save(self, snapshot: Snapshot, *, is_best: bool, stall_seconds: float) -> None:
        """Begin to write a set; the one before it must have been waited for, so that memory holds a single copy.

        Where another copy does not fit into memory it is written before this returns: the writing needs one more.

        Args:
            snapshot: the set.
            is_best: `best.json` is to name it.
            stall_seconds: what making the snapshot has cost the training.
        """
        started = time.perf_counter()
        self._pending = self._thread.submit(self._write, snapshot, is_best, stall_seconds, started)
        if psutil.virtual_memory().available < 2 * snapshot.bytes:
            self._pending.exception()

    def written(self) -> CheckpointSaved | None:
        """Return the event of a set that is on the disk by now, once.

        Raises:
            CheckpointError: it could not be written.
        """
        if self._pending is None or not self._pending.done():
            return None
        return self.wait()

    def wait(self) -> CheckpointSaved | None:
        """Return the event of the set that is being written when it is on the disk; None where there is none.

        Raises:
            CheckpointError: it could not be written.
        """
        pending, self._pending = self._pending, None
        return None if pending is None else pending.result()

    def _write(self, snapshot: Snapshot, is_best: bool, stall_seconds: float, started: float) -> CheckpointSaved:
        path = checkpoints_dir(self._output_dir) / snapshot.name
        save_checkpoint(path, snapshot)
        if is_best:
            mark_best(self._output_dir, snapshot.state)
        prune_checkpoints(self._output_dir, self._keep, snapshot.state.best_epoch)
        return CheckpointSaved(
            epoch=snapshot.state.epoch,
            step=snapshot.state.step,
            path=str(path.relative_to(self._output_dir)),
            seconds=time.perf_counter() - started + stall_seconds,
            stall_seconds=stall_seconds,
            is_best=is_best,
        )
