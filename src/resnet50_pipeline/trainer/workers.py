"""Loader processes, which write images straight into memory that the rank reads: nothing is copied on the way.

Paddle's own DataLoader makes a file in /dev/shm for every array of every batch, copies the batch into its fresh pages,
and leaves the file behind when a process is killed. Here a rank's processes share one anonymous mapping from the
beginning: it has no name, so it goes with the last process, and no page of it is made twice. Images wait in slots of
it, one batch each; only the slot's number, labels and rows go through a pipe.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, NamedTuple

from resnet50_pipeline.exceptions import LoaderProcessError
from resnet50_pipeline.trainer.loaded_batch import LoadedBatch, allot, load_batch
from resnet50_pipeline.trainer.sampling import Key

if TYPE_CHECKING:
    from resnet50_pipeline.trainer.data import ListDataset

# Batches that each process has under way: one that it works on, one that waits to be taken.
_PREFETCHED = 2
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class _Answer(NamedTuple):
    """A batch, and the shape of its images where they lie in the slot; None where they are sent with it."""

    loaded: LoadedBatch
    shape: tuple[int, ...] | None


class _Job(NamedTuple):
    """A batch under way, and where its images go."""

    future: Future[_Answer]
    slot: int


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
        self._slots = _Slots(_PREFETCHED * workers, slot_bytes)
        self._jobs: deque[_Job] = deque()
        self._executor = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_start_worker,
            initargs=(_Worker(dataset, max_skipped, self._slots), os.getpid()),
        )

    def load(self, batches: Iterable[Sequence[Key]]) -> Iterator[LoadedBatch]:
        """Yield the batches in their order; the images of one are valid until the next one is asked for.

        Raises:
            ImageDecodeError: see `load_batch`.
            LoaderProcessError: a process was killed.
        """
        self._leave_what_is_under_way()
        free, ahead = deque(range(self._slots.count)), iter(batches)
        try:
            while True:
                while free and (keys := next(ahead, None)):
                    slot = free.popleft()
                    self._jobs.append(_Job(self._executor.submit(_load, list(keys), slot), slot))
                if not self._jobs:
                    return
                job = self._jobs.popleft()
                loaded, shape = job.future.result()
                yield (
                    loaded
                    if shape is None
                    else loaded._replace(images=allot(shape, loaded.images.dtype.type, self._slots[job.slot]))
                )
                free.append(job.slot)
        except BrokenProcessPool as error:
            raise LoaderProcessError(
                "a loader process was killed; where the kernel did it, for lack of memory (`dmesg` says so), lower "
                "training.loader.num_workers; resume the run"
            ) from error

    def _leave_what_is_under_way(self) -> None:
        """Wait until nobody writes to a slot any more that an iteration, ended early, has asked for."""
        running = [job.future for job in self._jobs if not job.future.cancel()]
        self._jobs.clear()
        wait(running)


class _Slots:
    """Equal parts of one anonymous mapping, which child processes inherit."""

    def __init__(self, count: int, slot_bytes: int) -> None:
        self.count = count
        self._bytes = slot_bytes
        self._memory = memoryview(mmap.mmap(-1, count * slot_bytes)) if slot_bytes else memoryview(b"")

    def __getitem__(self, slot: int) -> memoryview:
        return self._memory[slot * self._bytes : (slot + 1) * self._bytes]


class _Worker(NamedTuple):
    dataset: ListDataset
    max_skipped: int
    slots: _Slots


_worker: list[_Worker] = []


def _start_worker(worker: _Worker, rank_pid: int) -> None:
    """Prepare a loader process: it has its data by inheritance, and ends with the rank, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != rank_pid:
        os._exit(1)
    # Ctrl-C goes to every process of the terminal; the rank ends its epoch's step first, and needs its batches for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _worker.append(worker)


def _load(keys: list[Key], slot: int) -> _Answer:
    ((dataset, max_skipped, slots),) = _worker
    buffer = slots[slot]
    loaded = load_batch(dataset, keys, max_skipped, buffer)
    if loaded.images.nbytes > len(buffer):
        return _Answer(loaded, None)
    return _Answer(loaded._replace(images=loaded.images[:0]), loaded.images.shape)
