"""Records the machine's resource usage as curves of a run.

A thread appends samples to an event file in the run's outbox folder, just as rank 0 writes training events. The same
code uploads both files.

    .mlflow_outbox/<session>/system/events.jsonl     {"event": "system_sample", "time": 1764000000.0, "values": {…}}
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from resnet50_pipeline.events import EventWriter
from resnet50_pipeline.processes.background import running_in_background
from resnet50_pipeline.tracking.delivery.curve_points import SystemSample
from resnet50_pipeline.tracking.delivery.curve_uploads import uploading_curves
from resnet50_pipeline.tracking.delivery.outbox import Outbox
from resnet50_pipeline.training_dir import events_path

logger = logging.getLogger(__name__)

UPLOAD_SECONDS = 60.0


@contextlib.contextmanager
def recording_system_metrics(outbox: Outbox, interval_seconds: float) -> Iterator[None]:
    """Record processor, memory, disk, network and GPU usage while the block runs.

    Uses MLflow's monitors, but not its sampling thread, which stops at the first failed request.

    Args:
        outbox: outbox of the run that receives the `system/…` curves.
        interval_seconds: time between two samples.
    """
    folder = outbox.folder.samples
    try:
        writer = EventWriter(events_path(folder))
    except OSError as error:
        logger.warning("cannot write to %s (%s); this run will have no system metrics", folder, error)
        yield
        return

    def sample(is_over: threading.Event) -> None:
        _sample_until(is_over, writer, interval_seconds)

    with (
        contextlib.closing(writer),
        uploading_curves(outbox, folder, resumes=True, poll_seconds=UPLOAD_SECONDS),
        running_in_background(sample, "system-metrics", join_seconds=interval_seconds),
    ):
        yield


def find_monitors() -> list[BaseMetricsMonitor]:
    """Return MLflow's monitors for this machine. GPUs are included if NVIDIA's library can read their state."""
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]  # type: ignore[no-untyped-call]
    try:
        monitors.append(GPUMonitor())  # type: ignore[no-untyped-call]
    except (ImportError, RuntimeError) as reason:  # no NVIDIA GPU, or pynvml is missing
        logger.debug("not sampling GPUs: %s", reason)
    return monitors


def take_sample(monitors: Sequence[BaseMetricsMonitor]) -> SystemSample:
    """Return the current values from all monitors."""
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()  # type: ignore[no-untyped-call]
        collected = monitor.aggregate_metrics()  # type: ignore[no-untyped-call]
        values |= {name: float(value) for name, value in collected.items()}
        monitor.clear_metrics()  # type: ignore[no-untyped-call]
    return SystemSample(values=values)


def _sample_until(is_over: threading.Event, writer: EventWriter, interval_seconds: float) -> None:
    monitors = find_monitors()
    _try_sample(monitors)  # processor and network usage is measured since the previous sample
    has_failed = False
    while True:
        is_last = is_over.wait(interval_seconds)  # sample at the end too, so that short runs have a point
        try:
            if sample := _try_sample(monitors):
                writer.write(sample)
        except (OSError, ValueError) as error:  # the disk is full, or the file was closed while this thread was running
            if not has_failed:
                logger.warning("stopped recording system metrics: %s", error)
            has_failed = True
        if is_last:
            return


def _try_sample(monitors: Sequence[BaseMetricsMonitor]) -> SystemSample | None:
    """Return a sample, or None if a driver fails."""
    try:
        return take_sample(monitors)
    except Exception as error:
        logger.debug("cannot sample resource usage (%s: %s)", type(error).__name__, error)
        return None
