"""Inspects many images at once: by processes of this machine, or by the workers of a Dask cluster.

An executor is a function from tasks to their results, in the order of the tasks:

    executor = choose_executor("processes", workers=8)
    for results in executor(tasks): …
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from multiprocessing import forkserver
from pathlib import Path
from typing import Literal, TypeVar

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.image_files import inspect_archived, inspect_file, inspect_image
from resnet50_pipeline.imagenet.inspection import Inspection, ScanLevel

Scheduler = Literal["processes", "dask"]
# A task of each level takes about a tenth of a second, so that passing it on costs little beside it.
_IMAGES_PER_TASK: dict[ScanLevel, int] = {"structure": 2048, "header": 2048, "full": 64}
# With fewer, starting the processes takes longer than reading.
_IMAGES_WORTH_A_POOL: dict[ScanLevel, int] = {"structure": 50_000, "header": 20_000, "full": 1000}
# What nearly every image needs. Of Pillow's decoders, the first image that needs another one loads them all.
_PRELOADED = ("resnet50_pipeline.imagenet.inspection_pool", "PIL.JpegImagePlugin")
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class InspectionTask:
    """Images that are inspected one after the other.

    Attributes:
        root: dataset root, with symbolic links resolved.
        paths: [N] POSIX paths relative to `root`.
        level: what is looked at.
        is_walked: whether a walk has found all of them to be regular files below the root, behind no link.
        archive: the tar that has their bytes, if they are not files of their own.
        offsets: [N] of the first byte in it; empty without an archive.
        sizes: [N] bytes, where they are known; always, of what is in an archive.
    """

    root: str
    paths: Sequence[str]
    level: ScanLevel
    is_walked: bool
    archive: str = ""
    offsets: Sequence[int] = ()
    sizes: Sequence[int] = ()


# One sequence a field of Inspection, which passes between processes faster than a record an image.
Columns = tuple[tuple[object, ...], ...]
Executor = Callable[[Sequence[InspectionTask]], Iterator[Columns]]


def split_into_tasks(task: InspectionTask) -> list[InspectionTask]:
    """Return tasks of a size that suits the level, in the order of the one that is given."""
    size = _IMAGES_PER_TASK[task.level]
    return [
        replace(
            task,
            paths=task.paths[start : start + size],
            offsets=task.offsets[start : start + size],
            sizes=task.sizes[start : start + size],
        )
        for start in range(0, len(task.paths), size)
    ]


def run_task(task: InspectionTask) -> Columns:
    """Inspect the images of a task."""
    if task.archive:
        found = inspect_archived(task.archive, task.offsets, task.sizes, task.level)
    elif task.is_walked and task.level != "structure":
        prefix = f"{task.root}/"
        sizes = task.sizes or repeat(0)
        found = [inspect_file(prefix + path, task.level, size) for path, size in zip(task.paths, sizes, strict=False)]
    else:
        root = Path(task.root)
        found = [inspect_image(root, path, task.level) for path in task.paths]
    return tuple(zip(*found, strict=True))


def inspect_images(root: Path, paths: Sequence[str], workers: int, level: ScanLevel = "full") -> list[Inspection]:
    """Return what each image is, in the order of `paths`.

    Args:
        root: dataset root, with symbolic links resolved.
        paths: POSIX paths relative to `root`.
        workers: processes; with one, or with few images, this process reads them itself.
        level: what is looked at.

    Raises:
        DatasetError: a process was killed.
    """
    executor = choose_executor("processes", workers)
    results = executor(split_into_tasks(InspectionTask(str(root), paths, level, is_walked=False)))
    return [Inspection(*record) for columns in results for record in zip(*columns, strict=True)]


def choose_executor(scheduler: Scheduler, workers: int = 0, dask_address: str = "") -> Executor:
    """Return the executor of that name.

    Args:
        scheduler: processes of this machine, or the workers of a Dask cluster, which must see the data set under
            the same path and have this package installed.
        workers: processes; 0 means one a core. Not for a Dask cluster that runs already.
        dask_address: of the cluster's scheduler, `tcp://host:8786`; empty starts a cluster on this machine.

    Raises:
        ParameterError: Dask is not installed.
    """
    workers = count_workers(workers)
    if scheduler == "dask":
        from resnet50_pipeline.imagenet.inspection_dask import require_dask, run_on_dask

        require_dask()
        return partial(run_on_dask, workers=workers, address=dask_address)
    return partial(run_in_processes, workers=workers)


def run_in_processes(tasks: Sequence[InspectionTask], workers: int) -> Iterator[Columns]:
    """Yield the results of the tasks, in their order.

    Raises:
        DatasetError: a process was killed.
    """
    if workers == 1 or sum(len(task.paths) / _IMAGES_WORTH_A_POOL[task.level] for task in tasks) < 1:
        yield from map(run_task, tasks)
    else:
        yield from map_in_processes(run_task, tasks, workers)


def count_workers(workers: int) -> int:
    """Return the number of processes that is meant: 0 means one a core."""
    return workers or len(os.sched_getaffinity(0))


def prepare_processes() -> None:
    """Start the process that the others are forked from, so that it imports what they need while this one goes on."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(_PRELOADED))
    forkserver.ensure_running()


def map_in_processes(
    function: Callable[[_Task], _Result],
    tasks: Sequence[_Task],
    workers: int,
    *,
    setting: str = "data_validation.workers",
) -> Iterator[_Result]:
    """Yield what a function gives for each task, in their order, of processes that end with this one.

    Args:
        function: what is done.
        tasks: to what.
        workers: processes.
        setting: the parameter that says how many, for messages.

    Raises:
        DatasetError: a process was killed.
    """
    prepare_processes()
    # A plain fork would copy whatever locks the threads of Kedro, MLflow and rich hold at that moment.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_start_worker) as pool:
        try:
            yield from _map_in_order(pool, function, tasks, 4 * workers)
        except BrokenProcessPool as error:
            raise DatasetError(
                f"a process that read images was killed, probably for want of memory → set {setting} below {workers}"
            ) from error
        except GeneratorExit:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _map_in_order(
    pool: ProcessPoolExecutor, function: Callable[[_Task], _Result], tasks: Sequence[_Task], ahead: int
) -> Iterator[_Result]:
    """Yield the results in the order of the tasks, of which at most `ahead` wait.

    Not `pool.map`: it submits all at once, and cancels them when a process dies. The pool of Python 3.11, which is
    about to fail the same ones, then hangs for good (python/cpython#107219).
    """
    waiting: deque[Future[_Result]] = deque()
    for task in tasks:
        waiting.append(pool.submit(function, task))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
