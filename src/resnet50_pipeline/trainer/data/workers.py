"""Loads batches in worker processes, directly into memory that they share with the rank.

Paddle's DataLoader creates a file in /dev/shm for every array of every batch, copies the batch to newly allocated
pages, and leaves the file behind if a process is killed. The workers in this module share an anonymous memory mapping
with their rank instead. The pages of the mapping are allocated only once, and released when the last process ends. The
mapping is divided into slots, each for the images of one batch. Only shapes, labels and rows go through a pipe.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from resnet50_pipeline.exceptions import ImageDecodeError, LoaderProcessError, LoaderProcessKilledError
from resnet50_pipeline.processes.parent_death import signal_on_parent_death
from resnet50_pipeline.trainer.data.batches import LoadedBatch, load_batch
from resnet50_pipeline.trainer.data.buffers import Buffers
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.sampling import Key

# Batches in progress per worker: one being loaded, and one loaded and waiting for the rank.
_PREFETCH_PER_WORKER = 2


class _Result(NamedTuple):
    """A batch from a worker. `shape` is the shape of its images in the slot.

    If the images did not fit in a slot, they were sent through the pipe, and `shape` is None.
    """

    loaded: LoadedBatch
    shape: tuple[int, ...] | None


class _Job(NamedTuple):
    """A batch in progress, and the slot for its images."""

    future: Future[_Result]
    slot: int | None


class LoaderProcesses:
    """A loader's worker processes. They start when the first batch is requested, and end with the rank."""

    def __init__(self, dataset: ListDataset, max_skipped: int, workers: int, slot_bytes: int) -> None:
        """Allocate the memory that the workers share.

        Args:
            dataset: dataset to load from.
            max_skipped: see `load_batch`.
            workers: number of processes.
            slot_bytes: size of a slot, normally the size of the largest batch's images. Larger batches are sent through
                the pipe.
        """
        # One extra slot, for the batch that the rank is training on.
        self._slots = Buffers(_PREFETCH_PER_WORKER * workers + 1, slot_bytes)
        self._max_jobs = _PREFETCH_PER_WORKER * workers
        self._jobs: deque[_Job] = deque()
        # With fork, workers inherit the mapping and the dataset (up to 1.28 million list entries) without copying.
        self._executor = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_start_worker,
            initargs=(_Worker(dataset, max_skipped, self._slots), os.getpid()),
        )

    def load(self, batches: Iterable[Sequence[Key]]) -> Iterator[LoadedBatch]:
        """Yield the batches in order. A slot is reused once its images are no longer referenced.

        Raises:
            ImageDecodeError: see `load_batch`.
            LoaderProcessError: if a worker process was killed or failed.
        """
        self._discard_jobs()
        ahead = iter(batches)
        try:
            while True:
                while len(self._jobs) < self._max_jobs and (self._slots.free or not self._jobs):
                    if (keys := next(ahead, None)) is None:
                        break
                    self._submit(list(keys))
                if not self._jobs:
                    return
                yield self._take()
        except BrokenProcessPool as error:
            raise LoaderProcessKilledError(
                "a worker process of the data loader was killed. If `dmesg` shows an out-of-memory error, lower "
                "training.loader.num_workers"
            ) from error

    def _submit(self, keys: list[Key]) -> None:
        # If the caller keeps all batches, no slot is free. Batches are then sent through the pipe, one at a time.
        slot = self._slots.free.popleft() if self._slots.free else None
        self._jobs.append(_Job(self._executor.submit(_load, keys, slot), slot))

    def _take(self) -> LoadedBatch:
        """Wait for the next batch and return it. Drop all references to its images, so the slot can be reused."""
        future, slot = self._jobs.popleft()
        try:
            loaded, shape = future.result()
        except ImageDecodeError:
            self._release(slot)
            raise
        if slot is None or shape is None:
            self._release(slot)
            return loaded
        return loaded._replace(images=self._slots.view(slot, shape, loaded.images.dtype))

    def _release(self, slot: int | None) -> None:
        if slot is not None:
            self._slots.free.append(slot)

    def _discard_jobs(self) -> None:
        """Discard the remaining batches of an iteration that ended early. Wait until no worker is writing to a slot."""
        wait([job.future for job in self._jobs if not job.future.cancel()])
        for job in self._jobs:
            self._release(job.slot)
        self._jobs.clear()


class _Worker(NamedTuple):
    dataset: ListDataset
    max_skipped: int
    slots: Buffers


# Set once in each worker process. If it were an argument of each job, it would be pickled for every batch.
_worker: list[_Worker] = []


def _start_worker(worker: _Worker, rank_pid: int) -> None:
    """Initialize a worker process. The process ends when its rank ends, even if the rank is killed."""
    signal_on_parent_death(signal.SIGKILL)
    # If the rank died before the line above, this process will never receive the signal.
    if os.getppid() != rank_pid:
        os._exit(1)
    # SIGINT and SIGHUP from a terminal reach all of its processes, but the rank needs its workers until it has finished
    # its step and saved a checkpoint set.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _worker.append(worker)


def _load(keys: list[Key], slot: int | None) -> _Result:
    ((dataset, max_skipped, slots),) = _worker
    buffer = None if slot is None else slots[slot]
    try:
        loaded = load_batch(dataset, keys, max_skipped, buffer)
    except Exception as error:
        if _can_be_pickled(error):
            raise
        # An exception that cannot be unpickled would break the pool, and the rank would report a killed process.
        raise LoaderProcessError(
            f"a worker process of the data loader failed: {type(error).__name__}: {error}"
        ) from error
    if buffer is None or loaded.images.nbytes > len(buffer):
        return _Result(loaded, None)
    # The images are in the slot. Send an empty array of the same dtype instead.
    return _Result(loaded._replace(images=loaded.images[:0].copy()), loaded.images.shape)


def _can_be_pickled(error: Exception) -> bool:
    """Return whether the rank can unpickle the exception. It cannot if the constructor needs additional arguments."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled on this line
    except Exception:  # any error that the exception's constructor raises
        return False
    return True
