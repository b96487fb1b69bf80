"""Runs inspection tasks in parallel, in processes on this machine or on a Dask cluster.

An executor is a function that yields the results of tasks, in task order:

    executor = choose_executor("processes", workers=8)
    for results in executor(tasks): …
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

from resnet50_pipeline.imagenet.scan.dask_executor import require_dask, run_on_dask
from resnet50_pipeline.imagenet.scan.inspection import ScanLevel
from resnet50_pipeline.imagenet.scan.tasks import Columns, Executor, InspectionTask, run_task
from resnet50_pipeline.imagenet.worker_pool import count_workers, map_in_processes

Scheduler = Literal["processes", "dask"]
# With fewer images, starting the processes takes longer than the inspection.
_MIN_IMAGES_FOR_POOL: dict[ScanLevel, int] = {"structure": 50_000, "header": 20_000, "full": 1000}


def choose_executor(scheduler: Scheduler, workers: int = 0, dask_address: str = "") -> Executor:
    """Return the executor for a scheduler.

    Args:
        scheduler: `processes` for this machine, or `dask` for a cluster. Every Dask worker needs this package, and the
            dataset at the same path.
        workers: number of processes; 0 means one per core. Ignored if `dask_address` is given.
        dask_address: address of a running scheduler, `tcp://host:8786`; if empty, Dask starts a local cluster.

    Raises:
        ParameterError: if Dask is not installed.
    """
    workers = count_workers(workers)
    if scheduler == "dask":
        require_dask()
        return partial(run_on_dask, workers=workers, address=dask_address)
    return partial(run_in_processes, workers=workers)


def run_in_processes(tasks: Sequence[InspectionTask], workers: int) -> Iterator[Columns]:
    """Yield the results of the tasks, in task order.

    Raises:
        DatasetError: if a worker process is killed.
    """
    if workers == 1 or sum(len(task.paths) / _MIN_IMAGES_FOR_POOL[task.level] for task in tasks) < 1:
        yield from map(run_task, tasks)
    else:
        yield from map_in_processes(run_task, tasks, workers)
