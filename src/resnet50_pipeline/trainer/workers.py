"""Loader processes, which write images straight into memory that the rank reads: nothing is copied on the way.

Paddle's own DataLoader makes a file in /dev/shm for every array of every batch, copies the batch into its fresh pages,
and leaves the file behind when a process is killed. Here a rank's processes share one anonymous mapping from the
beginning: it has no name, so it goes with the last process, and no page of it is made twice. Images wait in slots of
it, one batch each; only the slot's number, labels and rows go through a pipe.
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
from typing import TYPE_CHECKING, NamedTuple

from resnet50_pipeline.exceptions import ImageDecodeError, LoaderProcessError
from resnet50_pipeline.trainer.buffers import Buffers
from resnet50_pipeline.trainer.heartbeat import exit_with_parent
from resnet50_pipeline.trainer.loaded_batch import LoadedBatch, load_batch
from resnet50_pipeline.trainer.sampling import Key

if TYPE_CHECKING:
    from resnet50_pipeline.trainer.data import ListDataset

# Batches that each process has under way: one that it works on, one that waits to be taken.
_PREFETCHED = 2


class _Answer(NamedTuple):
    """A batch, and the shape of its images where they lie in the slot; None where they are sent with it."""

    loaded: LoadedBatch
    shape: tuple[int, ...] | None


class _Job(NamedTuple):
    """A batch under way, and where its images go."""

    future: Future[_Answer]
    slot: int | None


class LoaderProcesses:
    """The loader processes of one loader; they start with its first batch and live as long as the rank."""

    def __init__(self, dataset: ListDataset, max_skipped: int, workers: int, slot_bytes: int) -> None:
        """Prepare what the processes share.

        Args:
            dataset: whose images are loaded.
            max_skipped: see `load_batch`.
            workers: number of processes.
            slot_bytes: of the images of the largest batch; larger ones, and all where this is 0, go through the pipe.
        """
        # One more than are under way: the rank works on it.
        self._slots = Buffers(_PREFETCHED * workers + 1, slot_bytes)
        self._at_a_time = _PREFETCHED * workers
        self._jobs: deque[_Job] = deque()
        self._executor = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_start_worker,
            initargs=(_Worker(dataset, max_skipped, self._slots), os.getpid()),
        )

    def load(self, batches: Iterable[Sequence[Key]]) -> Iterator[LoadedBatch]:
        """Yield the batches in their order; their images lie in slots, which are free again when the images are gone.

        Raises:
            ImageDecodeError: see `load_batch`.
            LoaderProcessError: a process was killed.
        """
        self._leave_what_is_under_way()
        ahead = iter(batches)
        try:
            while True:
                while len(self._jobs) < self._at_a_time and (self._slots.free or not self._jobs):
                    if (keys := next(ahead, None)) is None:
                        break
                    self._submit(list(keys))
                if not self._jobs:
                    return
                yield self._take()
        except BrokenProcessPool as error:
            raise LoaderProcessError(
                "a loader process was killed; where the kernel did it, for lack of memory (`dmesg` says so), lower "
                "training.loader.num_workers; resume the run"
            ) from error

    def _submit(self, keys: list[Key]) -> None:
        # Whoever keeps all batches leaves no slot: then one batch at a time comes through the pipe.
        slot = self._slots.free.popleft() if self._slots.free else None
        self._jobs.append(_Job(self._executor.submit(_load, keys, slot), slot))

    def _take(self) -> LoadedBatch:
        """Wait for the next batch and return it; no other reference to its images is kept."""
        future, slot = self._jobs.popleft()
        try:
            loaded, shape = future.result()
        except ImageDecodeError:
            self._give_back(slot)
            raise
        if slot is None or shape is None:
            self._give_back(slot)
            return loaded
        return loaded._replace(images=self._slots.look_at(slot, shape, loaded.images.dtype))

    def _give_back(self, slot: int | None) -> None:
        if slot is not None:
            self._slots.free.append(slot)

    def _leave_what_is_under_way(self) -> None:
        """Wait until nobody writes to a slot any more that an iteration, ended early, has asked for."""
        wait([job.future for job in self._jobs if not job.future.cancel()])
        for job in self._jobs:
            self._give_back(job.slot)
        self._jobs.clear()


class _Worker(NamedTuple):
    dataset: ListDataset
    max_skipped: int
    slots: Buffers


_worker: list[_Worker] = []


def _start_worker(worker: _Worker, rank_pid: int) -> None:
    """Prepare a loader process: it has its data by inheritance, and ends with the rank, however that ends."""
    exit_with_parent()
    if os.getppid() != rank_pid:
        os._exit(1)
    # Ctrl-C goes to every process of the terminal; the rank ends its epoch's step first, and needs its batches for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _worker.append(worker)


def _load(keys: list[Key], slot: int | None) -> _Answer:
    ((dataset, max_skipped, slots),) = _worker
    buffer = None if slot is None else slots[slot]
    try:
        loaded = load_batch(dataset, keys, max_skipped, buffer)
    except Exception as error:
        if _can_be_sent(error):
            raise
        # The rank would take it for a process that was killed.
        raise LoaderProcessError(f"a loader process failed: {type(error).__name__}: {error}") from error
    if buffer is None or loaded.images.nbytes > len(buffer):
        return _Answer(loaded, None)
    return _Answer(loaded._replace(images=loaded.images[:0].copy()), loaded.images.shape)


def _can_be_sent(error: Exception) -> bool:
    """Whether the rank can build the exception again: some want more for that than what they keep."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own, of this moment
    except Exception:  # whatever its class does when it is built
        return False
    return True
