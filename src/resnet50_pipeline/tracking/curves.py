"""The curves of a training run: from `events.jsonl` to MLflow, each point once.

A cursor beside the events says how far they were uploaded, and for which run:

    .mlflow_cursor.json      {"run": "2026-11-24T05.51.29.123Z", "events": "5e0c…", "byte": 20480, "ranks": 4, …}

It moves after MLflow took a batch. Should the process die in between, the batch is sent again, and MLflow stores a
point (name, time, step, value) that it has once. A training that was killed does the steps after its checkpoint set
again when it goes on: their points are on the curve and are left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterator
from multiprocessing.pool import AsyncResult, ThreadPool
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Metric
from pydantic import BaseModel, ConfigDict, ValidationError

from resnet50_pipeline.events import AnyEvent, EpochEnd, EvalEnd, Started, TrainStep, parse_event
from resnet50_pipeline.files import write_text

logger = logging.getLogger(__name__)

EVENTS = "events.jsonl"
CURSOR = ".mlflow_cursor.json"
MAX_METRICS_PER_BATCH = 1000
# About as much as one request takes.
_CHUNK_BYTES = 1 << 16
# While a server computes for one, the next is on its way. More only wait for each other there: with two workers, a
# backlog took 24 s with two at a time, 27 s with three and 30 s with four.
_REQUESTS_AT_A_TIME = 2

# Not batch_seconds, which images_per_second says too: a point costs MLflow's database as much as any other.
_STEP_CURVES: tuple[str, ...] = ("loss", "top1", "learning_rate", "images_per_second", "reader_seconds")
_EPOCH_CURVES: tuple[str, ...] = ("loss", "top1", "images_per_second", "seconds", "skipped_images")
_EVALUATION_CURVES: tuple[str, ...] = ("loss", "top1", "top5", "images_per_second")


class Cursor(BaseModel):
    """How far the events of a folder were uploaded.

    Attributes:
        run: session of the run that has them (`TrackedRun.session`; MLflow's own id may not be known yet).
        events: SHA-256 of the file's first line, which tells a new file from a longer one; "" for no line yet.
        byte: the first byte that was not uploaded.
        ranks: of the training; another number counts other steps.
        last_step: the last step of each curve that was uploaded, by the first part of its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    events: str
    byte: int
    ranks: int = 0
    last_step: dict[str, int] = {}


class _Batch(NamedTuple):
    """Points of one request, and the cursor behind them."""

    metrics: list[Metric]
    cursor: Cursor


def metrics_of(event: AnyEvent) -> list[Metric]:
    """Return the points that an event adds to the curves; most kinds of events add none.

    `train/…` is drawn over optimizer steps, `epoch/…` (training means) and `val/…` over epochs.
    """
    match event:
        case TrainStep(step=step):
            prefix, names = "train", _STEP_CURVES
        case EpochEnd(epoch=step):
            prefix, names = "epoch", _EPOCH_CURVES
        case EvalEnd(epoch=step):
            prefix, names = "val", _EVALUATION_CURVES
        case _:
            return []
    time_ms = round(event.time * 1000)
    return [Metric(f"{prefix}/{name}", float(getattr(event, name)), time_ms, step) for name in names]


def skip_existing_events(session: str, training_dir: Path) -> None:
    """Say that what an earlier training left in the folder does not belong to the curves of this session's run."""
    path = training_dir / EVENTS
    if identity := _identify(path):
        _write_cursor(training_dir, Cursor(run=session, events=identity, byte=path.stat().st_size))


def claim_new_events(session: str, training_dir: Path) -> None:
    """Say that the events of the folder belong to this session's run, if it is not said yet.

    So a training whose MLflow server never answered finds its run again when it goes on.
    """
    if identity := _identify(training_dir / EVENTS):
        cursor = _read_cursor(training_dir)
        if cursor is None or cursor.events != identity:
            _write_cursor(training_dir, Cursor(run=session, events=identity, byte=0))


def session_of(training_dir: Path) -> str | None:
    """Return the session whose run has the curves of the training in the folder; None where nobody has them."""
    cursor = _read_cursor(training_dir)
    if cursor is None or cursor.events != _identify(training_dir / EVENTS):
        return None
    return cursor.run


def upload_new_events(client: MlflowClient, run_id: str, session: str, training_dir: Path) -> int:
    """Upload what was appended since the last time, whole events only; return the number of points.

    A file that took the place of the one of last time is uploaded from its beginning. A server gets two requests
    at a time; what one of them did not take is sent again the next time, with all that came behind it.
    """
    path = training_dir / EVENTS
    identity = _identify(path)
    if not identity:
        return 0
    cursor = _read_cursor(training_dir)
    if cursor is None or (cursor.run, cursor.events) != (session, identity):
        cursor = Cursor(run=session, events=identity, byte=0)
    uploaded = 0
    for batch in _send(client, run_id, _batches(path, cursor)):
        _write_cursor(training_dir, batch.cursor)
        uploaded += len(batch.metrics)
    return uploaded


def _send(client: MlflowClient, run_id: str, batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """Send batches, and yield each when it and all before it were taken."""
    is_server = client.tracking_uri.startswith("http")
    under_way: deque[tuple[_Batch, AsyncResult[object]]] = deque()
    with contextlib.ExitStack() as stack:
        pool: ThreadPool | None = None
        for number, batch in enumerate(batches):
            # Nearly always the first is the only one.
            if not batch.metrics or not is_server or number == 0:
                while under_way:
                    yield _wait_for_first(under_way)
                if batch.metrics:
                    client.log_batch(run_id, metrics=batch.metrics)
                yield batch
                continue
            # Its threads are daemons: should a server hang, the process can end all the same.
            pool = pool or stack.enter_context(ThreadPool(_REQUESTS_AT_A_TIME))
            under_way.append((batch, pool.apply_async(client.log_batch, (run_id, batch.metrics))))
            if len(under_way) == _REQUESTS_AT_A_TIME:
                yield _wait_for_first(under_way)
        while under_way:
            yield _wait_for_first(under_way)


def _wait_for_first(under_way: deque[tuple[_Batch, AsyncResult[object]]]) -> _Batch:
    batch, answer = under_way.popleft()
    answer.get()
    return batch


def _batches(path: Path, cursor: Cursor) -> Iterator[_Batch]:
    """Yield what is behind the cursor, as much at a time as one request takes."""
    while lines := _read_lines(path, cursor.byte):
        metrics, cursor = _fill_batch(lines, path, cursor)
        yield _Batch(metrics, cursor)


def _fill_batch(lines: list[bytes], path: Path, cursor: Cursor) -> tuple[list[Metric], Cursor]:
    """Return the points of the first lines, as many as one request takes, and the cursor behind these lines."""
    metrics: list[Metric] = []
    size, ranks, last_step = 0, cursor.ranks, dict(cursor.last_step)
    for line in lines:
        event = _event_of_line(line, path)
        points = metrics_of(event) if event is not None else []
        if len(metrics) + len(points) > MAX_METRICS_PER_BATCH:
            break
        size += len(line)
        if isinstance(event, Started) and event.ranks != ranks:
            ranks, last_step = event.ranks, {}
        if points:
            curve, step = points[0].key.partition("/")[0], points[0].step
            if step > last_step.get(curve, 0):
                metrics += points
                last_step[curve] = step
    return metrics, cursor.model_copy(update={"byte": cursor.byte + size, "ranks": ranks, "last_step": last_step})


def _read_lines(path: Path, start: int) -> list[bytes]:
    """Return whole lines from byte `start` on, some 64 KiB of them."""
    with path.open("rb") as file:
        file.seek(start)
        return [line for line in file.readlines(_CHUNK_BYTES) if line.endswith(b"\n")]


def _event_of_line(line: bytes, path: Path) -> AnyEvent | None:
    try:
        return parse_event(line)
    except ValidationError:
        logger.warning("%s: not an event, and not on the curves: %r", path, line[:200])
        return None


def _identify(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        first = file.readline()
    return hashlib.sha256(first).hexdigest() if first.endswith(b"\n") else ""


def _read_cursor(training_dir: Path) -> Cursor | None:
    try:
        return Cursor.model_validate_json((training_dir / CURSOR).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _write_cursor(training_dir: Path, cursor: Cursor) -> None:
    write_text(training_dir / CURSOR, json.dumps(cursor.model_dump()) + "\n")
