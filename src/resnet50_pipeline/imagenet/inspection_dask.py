"""Inspects images on a Dask cluster, of this machine or of many; Dask is the optional extra `dask`."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.imagenet.inspection_pool import Columns, InspectionTask, run_task

if TYPE_CHECKING:
    from distributed import Client

_TASKS_AHEAD_PER_THREAD = 4
_CONNECT_SECONDS = 30


def require_dask() -> None:
    """Make sure that Dask is installed.

    Raises:
        ParameterError: with the command that installs it.
    """
    if importlib.util.find_spec("distributed") is None:
        raise ParameterError(
            "data_validation.scan.scheduler is dask, but Dask is not installed → "
            "`pip install 'resnet50-pipeline[dask]'`, or set it to processes"
        )


def run_on_dask(tasks: Sequence[InspectionTask], workers: int, address: str = "") -> Iterator[Columns]:
    """Yield the results of the tasks, in their order.

    Args:
        tasks: their root must be the data set on every worker.
        workers: processes of the cluster that is started where `address` is empty.
        address: of a scheduler that runs.

    Raises:
        DatasetError: the scheduler cannot be reached, or a task failed on the workers.
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
                f"the Dask scheduler at {address} cannot be reached: {error} → start it, or correct "
                "data_validation.scan.dask_address"
            ) from error
        try:
            yield from _run_in_order(client, tasks)
        except (KilledWorker, FutureCancelledError) as error:
            raise DatasetError(f"the Dask cluster lost a task: {error} → see the logs of its workers") from error


def _run_in_order(client: Client, tasks: Sequence[InspectionTask]) -> Iterator[Columns]:
    """Yield the results in the order of the tasks; the cluster never holds more than a few a thread."""
    ahead = _TASKS_AHEAD_PER_THREAD * max(1, sum(client.nthreads().values()))
    waiting: deque[object] = deque()
    for task in tasks:
        # pure=False: the same task in a later scan is a task of its own, for the files may have changed.
        waiting.append(client.submit(run_task, task, pure=False))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()  # type: ignore[attr-defined]
    while waiting:
        yield waiting.popleft().result()  # type: ignore[attr-defined]
