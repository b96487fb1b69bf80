"""Inspects many images at once, in processes that import as little as they can."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.inspection import Inspection, inspect_image
from resnet50_pipeline.imagenet.scan_progress import show_progress

_IMAGES_PER_TASK = 64
# With fewer, starting the processes takes longer than reading.
_IMAGES_WORTH_A_POOL = 1000


def inspect_images(root: Path, paths: Sequence[str], workers: int) -> list[Inspection]:
    """Return what each image is, in the order of `paths`, and show the progress.

    Args:
        root: dataset root, with symbolic links resolved.
        paths: POSIX paths relative to `root`.
        workers: processes; with one, or with few images, this process reads them itself.

    Raises:
        DatasetError: a process was killed.
    """
    tasks = [paths[index : index + _IMAGES_PER_TASK] for index in range(0, len(paths), _IMAGES_PER_TASK)]
    inspections: list[Inspection] = []
    with show_progress(len(paths)) as advance:
        for inspected in _run_tasks(root, tasks, workers if len(paths) >= _IMAGES_WORTH_A_POOL else 1):
            inspections += inspected
            advance(len(inspected))
    return inspections


def _run_tasks(root: Path, tasks: Sequence[Sequence[str]], workers: int) -> Iterator[list[Inspection]]:
    if workers == 1:
        for task in tasks:
            yield _inspect_task(root, task)
        return
    # A plain fork would copy whatever locks the threads of Kedro, MLflow and rich hold at that moment.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_start_worker) as pool:
        try:
            yield from _run_in_order(pool, root, tasks, 4 * workers)
        except BrokenProcessPool as error:
            raise DatasetError(
                "a process that read images was killed, probably for want of memory → "
                f"set data_validation.workers below {workers}"
            ) from error


def _run_in_order(
    pool: ProcessPoolExecutor, root: Path, tasks: Sequence[Sequence[str]], ahead: int
) -> Iterator[list[Inspection]]:
    """Yield the results in the order of the tasks, of which at most `ahead` wait.

    Not `pool.map`: it submits all at once, and cancels them when a process dies. The pool of Python 3.11, which is
    about to fail the same ones, then hangs for good (python/cpython#107219).
    """
    waiting: deque[Future[list[Inspection]]] = deque()
    for task in tasks:
        waiting.append(pool.submit(_inspect_task, root, task))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _inspect_task(root: Path, paths: Sequence[str]) -> list[Inspection]:
    return [inspect_image(root, path) for path in paths]


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
