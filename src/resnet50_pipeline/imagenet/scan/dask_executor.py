"""Inspects images on a Dask cluster, which is local or spans machines. Requires the `dask` extra."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet.scan.tasks import Columns, InspectionTask, run_task

if TYPE_CHECKING:
    from distributed import Client

_TASKS_AHEAD_PER_THREAD = 4
_CONNECT_SECONDS = 30


def require_dask() -> None:
    """Raise an error with the install command if Dask is not installed.

    Raises:
        ParameterError: if Dask is not installed.
    """
    if importlib.util.find_spec("distributed") is None:
        raise ParameterError(
            "data_validation.scan.scheduler is dask, but Dask is not installed → run `pip install -e '.[dask]'` in the "
            "project folder, or set the scheduler to processes"
        )


def run_on_dask(tasks: Sequence[InspectionTask], workers: int, address: str = "") -> Iterator[Columns]:
    """Yield the results of the tasks, in task order.

    Args:
        tasks: tasks to run. The dataset root must have the same path on every worker.
        workers: number of processes of the local cluster; unused if `address` is given.
        address: address of a running scheduler; if empty, a local cluster is started.

    Raises:
        DatasetError: if the scheduler cannot be reached, or a task fails on the workers.
    """
    from distributed import Client, LocalCluster
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    if not tasks:
        return
    with ExitStack() as stack:
        try:
            cluster = address or stack.enter_context(
                LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            )
            client = stack.enter_context(Client(cluster, timeout=_CONNECT_SECONDS))
        except OSError as error:
            raise DatasetError(
                f"the Dask scheduler at {address} cannot be reached: {error} → start the scheduler, or correct "
                "data_validation.scan.dask_address"
            ) from error
        try:
            yield from _run_in_order(client, tasks)
        except (KilledWorker, FutureCancelledError) as error:
            raise DatasetError(f"the Dask cluster lost a task: {error} → check the worker logs") from error


def _run_in_order(client: Client, tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
    """Yield the results in task order. Only a few tasks per thread are in flight."""
    ahead = _TASKS_AHEAD_PER_THREAD * max(1, sum(client.nthreads().values()))
    waiting: deque[object] = deque()
    for task in tasks:
        # Not pure: Dask must not reuse the result of an identical earlier task, because the files may have changed.
        waiting.append(client.submit(run_task, task, pure=False))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()  # type: ignore[attr-defined]
    while waiting:
        yield waiting.popleft().result()  # type: ignore[attr-defined]
