"""Maps a function over tasks in worker processes and yields the results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from resnet50_pipeline.exceptions import DatasetError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def count_workers(workers: int) -> int:
    """Return the number of worker processes: `workers`, or one per core if `workers` is 0."""
    return workers or len(os.sched_getaffinity(0))


def map_in_processes(
    function: Callable[[_Task], _Result],
    tasks: Sequence[_Task],
    workers: int,
    *,
    setting: str = "data_validation.workers",
) -> Iterator[_Result]:
    """Yield `function(task)` for each task, in task order. The workers exit when this process exits.

    Args:
        function: picklable function to apply.
        tasks: arguments.
        workers: number of worker processes.
        setting: name of the parameter that sets `workers`, for error messages.

    Raises:
        DatasetError: if a worker process is killed.
    """
    # A plain fork would copy the locks that threads of Kedro, MLflow or rich hold at that moment, and a worker that
    # needs one of these locks would wait forever. The fork server has no other threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_start_worker) as pool:
        try:
            yield from _map_in_order(pool, function, tasks, 4 * workers)
        except BrokenProcessPool as error:
            raise DatasetError(
                "a worker process was killed, probably because the machine ran out of memory → lower "
                f"{setting} (now {workers})"
            ) from error
        except GeneratorExit:
            # The caller stopped iterating. Drop the queued tasks so that closing the pool does not run them.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _map_in_order(
    pool: ProcessPoolExecutor, function: Callable[[_Task], _Result], tasks: Sequence[_Task], ahead: int
) -> Iterator[_Result]:
    """Yield the results in task order. At most `ahead` tasks are in flight.

    `pool.map` would submit all tasks at once and cancel them when a worker dies. At that moment, Python 3.11's pool
    marks the same futures as failed, and can therefore hang forever (python/cpython#107219).
    """
    waiting: deque[Future[_Result]] = deque()
    for task in tasks:
        waiting.append(pool.submit(function, task))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _start_worker() -> None:
    """Ignore Ctrl-C and hangups, which the parent handles, and exit when the parent process exits or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
