"""Uploads the events in a folder to the curves of a run, without duplicate points.

A background thread calls `upload_new_events` during training, and the outbox calls it afterward.

The cursor advances once MLflow has stored a batch. If the process dies before that, the batch is sent again, and MLflow
drops points with the same name, time, step and value. A training run that was killed and resumed repeats the steps
after its last checkpoint set. The points of these steps are already on the curve and are skipped.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing.pool import AsyncResult, ThreadPool
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Metric
from pydantic import ValidationError

from resnet50_pipeline.events import AnyEvent, Started
from resnet50_pipeline.tailing import read_complete_lines
from resnet50_pipeline.tracking.delivery.curve_cursor import Cursor, find_cursor, write_cursor
from resnet50_pipeline.tracking.delivery.curve_points import SystemSample, make_points, parse_curve_event
from resnet50_pipeline.tracking.limits import MAX_METRICS_PER_BATCH
from resnet50_pipeline.training_dir import events_path

logger = logging.getLogger(__name__)

# Approximate number of events that fill one request.
_CHUNK_BYTES = 1 << 16
# The client prepares one request while the server works on another. Additional requests only queue up: for the same
# backlog, a server with two workers took 24 s with two requests in flight, 27 s with three and 30 s with four.
_REQUESTS_IN_FLIGHT = 2


class _Batch(NamedTuple):
    """The points of one request, and the cursor position after them."""

    metrics: list[Metric]
    cursor: Cursor


def upload_new_events(client: MlflowClient, run_id: str, session: str, folder: Path) -> int:
    """Upload all complete events after the cursor, and return the number of points.

    If the file was replaced, it is uploaded from the beginning. If a request fails, the next call resumes with the
    failed batch.

    Args:
        client: client of the run's store.
        run_id: MLflow's ID of the run.
        session: unique key of the run, as in the cursor.
        folder: folder of `events.jsonl`, which may not exist yet.
    """
    cursor = find_cursor(session, folder, run_id)
    if cursor is None:
        return 0

    @cache
    def get_start_ms() -> int:
        return int(client.get_run(run_id).info.start_time)

    uploaded = 0
    for batch in _send(client, run_id, _make_batches(events_path(folder), cursor, get_start_ms)):
        write_cursor(folder, batch.cursor)
        uploaded += len(batch.metrics)
    return uploaded


def _send(client: MlflowClient, run_id: str, batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """Send batches to MLflow. Yield each batch after MLflow has stored it and all earlier batches."""
    is_server = client.tracking_uri.startswith("http")
    in_flight: deque[tuple[_Batch, AsyncResult[object]]] = deque()
    with contextlib.ExitStack() as stack:
        pool: ThreadPool | None = None
        for number, batch in enumerate(batches):
            # Most uploads consist of a single batch, which does not need a pool.
            if not batch.metrics or not is_server or number == 0:
                while in_flight:
                    yield _wait_for_first(in_flight)
                if batch.metrics:
                    client.log_batch(run_id, metrics=batch.metrics)
                yield batch
                continue
            # The pool's threads are daemons, so a hanging server cannot keep the process alive.
            pool = pool or stack.enter_context(ThreadPool(_REQUESTS_IN_FLIGHT))
            in_flight.append((batch, pool.apply_async(client.log_batch, (run_id, batch.metrics))))
            if len(in_flight) == _REQUESTS_IN_FLIGHT:
                yield _wait_for_first(in_flight)
        while in_flight:
            yield _wait_for_first(in_flight)


def _wait_for_first(in_flight: deque[tuple[_Batch, AsyncResult[object]]]) -> _Batch:
    batch, answer = in_flight.popleft()
    answer.get()
    return batch


def _make_batches(path: Path, cursor: Cursor, get_start_ms: Callable[[], int]) -> Iterator[_Batch]:
    """Yield the events after the cursor in batches that each fit in one request."""
    while lines := read_complete_lines(path, cursor.byte, _CHUNK_BYTES):
        batch = _fill_batch(lines, path, cursor, get_start_ms)
        cursor = batch.cursor
        yield batch


def _fill_batch(lines: list[bytes], path: Path, cursor: Cursor, get_start_ms: Callable[[], int]) -> _Batch:
    """Return a batch of the first lines that together fit in one request."""
    metrics: list[Metric] = []
    size, ranks, last_step = 0, cursor.ranks, dict(cursor.last_step)
    for line in lines:
        event = _parse_line(line, path)
        points = [] if event is None else make_points(event, get_start_ms)
        # A sample with more values than fit in one request forms a separate batch.
        if metrics and len(metrics) + len(points) > MAX_METRICS_PER_BATCH:
            break
        size += len(line)
        if isinstance(event, Started) and event.ranks != ranks:
            ranks, last_step = event.ranks, {}
        if isinstance(event, SystemSample):
            metrics += points
        elif points:
            group, step = points[0].key.partition("/")[0], points[0].step
            if step > last_step.get(group, 0):
                metrics += points
                last_step[group] = step
    update = {"byte": cursor.byte + size, "ranks": ranks, "last_step": last_step}
    return _Batch(metrics, cursor.model_copy(update=update))


def _parse_line(line: bytes, path: Path) -> AnyEvent | SystemSample | None:
    try:
        return parse_curve_event(line)
    except ValidationError:
        logger.warning("%s: skipped an invalid line, which will be missing from the curves: %r", path, line[:200])
        return None
