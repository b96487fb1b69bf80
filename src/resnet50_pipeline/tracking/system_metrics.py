"""What the machine does while a run is under way, looked at and uploaded from a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from resnet50_pipeline.tracking.operations import LogSystemMetrics, SystemSample
from resnet50_pipeline.tracking.runs import TrackedRun

logger = logging.getLogger(__name__)

SAMPLES_PER_UPLOAD = 6


@contextlib.contextmanager
def sampling_system_metrics(run: TrackedRun, interval_seconds: float) -> Iterator[None]:
    """Upload what CPU, memory, disk, network and GPUs did while the block ran.

    MLflow's own monitors look; its own thread would stop for good at the first request that a server does not answer.
    What could not be uploaded is kept in memory, and told with the last of it.

    Args:
        run: gets the metrics `system/…`.
        interval_seconds: pause between two looks.
    """
    is_over = threading.Event()
    waiting: list[SystemSample] = []
    thread = threading.Thread(
        target=_sample_until, args=(is_over, run, waiting, interval_seconds), name="mlflow-system", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(interval_seconds)
        if waiting:
            run.tell(LogSystemMetrics(samples=list(waiting)))


def find_monitors() -> list[BaseMetricsMonitor]:
    """Return a monitor for each part of the machine that can be looked at here."""
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]  # type: ignore[no-untyped-call]
    try:
        monitors.append(GPUMonitor())  # type: ignore[no-untyped-call]
    except (ImportError, RuntimeError) as reason:  # no GPU of NVIDIA's, or not the package that asks for it
        logger.debug("no GPU is looked at: %s", reason)
    return monitors


def look(monitors: Sequence[BaseMetricsMonitor]) -> SystemSample:
    """Return what the monitors see now."""
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()  # type: ignore[no-untyped-call]
        seen = monitor.aggregate_metrics()  # type: ignore[no-untyped-call]
        values |= {name: float(value) for name, value in seen.items()}
        monitor.clear_metrics()  # type: ignore[no-untyped-call]
    return SystemSample(time_ms=round(time.time() * 1000), values=values)


def _sample_until(
    is_over: threading.Event, run: TrackedRun, waiting: list[SystemSample], interval_seconds: float
) -> None:
    monitors = find_monitors()
    _look_safely(monitors)  # CPU and network are differences from the look before
    while not is_over.wait(interval_seconds):
        waiting += _look_safely(monitors)
        try:
            if len(waiting) >= SAMPLES_PER_UPLOAD and run.catch_up():
                client, run_id = run.connect()
                LogSystemMetrics(samples=list(waiting)).apply(client, run_id)
                waiting.clear()
        except Exception as error:  # whatever it is, the run goes on, and the next look tries again
            logger.debug("system metrics wait (%s: %s)", type(error).__name__, error)
    waiting += _look_safely(monitors)  # so that a run of seconds has a point, too


def _look_safely(monitors: Sequence[BaseMetricsMonitor]) -> list[SystemSample]:
    """Return what is seen now; nothing where a driver fails, which is no reason for a run to end."""
    try:
        return [look(monitors)]
    except Exception as error:
        logger.debug("the machine cannot be looked at (%s: %s)", type(error).__name__, error)
        return []
