"""Measures the CPU time of uploading curves during training, and how fast a backlog is uploaded."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
from targets import Target

from resnet50_pipeline.events import AnyEvent, EpochEnd, EvalEnd, EventWriter, Started, TrainStep
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.delivery.curve_cursor import claim_new_events
from resnet50_pipeline.tracking.delivery.curve_uploads import POLL_SECONDS
from resnet50_pipeline.tracking.delivery.curve_writer import upload_new_events
from resnet50_pipeline.tracking.delivery.system_metrics import UPLOAD_SECONDS, find_monitors, take_sample
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun, open_run
from resnet50_pipeline.training_dir import events_path

# The sample: 2,000 images, two ranks with 16 images per step each, an event every five steps. TRAINING_SECONDS is the
# duration of its training on two idle cores (benchmarks/orchestration.py); in a longer training run, tracking takes a
# smaller share.
EPOCHS, STEPS_PER_EPOCH, STEPS_PER_EVENT, TRAINING_SECONDS = 5, 63, 5, 200.0
SYSTEM_SECONDS = 10.0
BACKLOG_EVENTS = 100_000


def measure_sqlite(folder: Path) -> list[Target]:
    """Return the targets for a SQLite file."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    return _measure("SQLite", folder, uri, [])


def measure_server(folder: Path) -> list[Target]:
    """Return the targets for an MLflow server with a SQLite file, including the CPU time of the server."""
    with _server(folder) as (uri, process):
        return _measure("server", folder, uri, [process, *process.children(recursive=True)])


def _measure(name: str, folder: Path, uri: str, others: list[psutil.Process]) -> list[Target]:
    tracking = TrackingParameters(uri=uri, experiment="benchmark", artifact_root=folder / "artifacts")
    run = open_run(RunDescription("benchmark", "ResNet50 benchmark", {}, {}), tracking, folder)
    share = _cpu_seconds_of_training(run, folder / "training", others) / TRAINING_SECONDS
    run.end("FINISHED")
    backlog = open_run(RunDescription("backlog", "ResNet50 backlog", {}, {}), tracking, folder)
    seconds = _seconds_of_backlog(backlog, folder / "backlog")
    backlog.end("FINISHED")
    return [
        Target(f"CPU time of tracking, {name}, percent of the sample's training time", 100 * share, 0.5),
        Target(f"replay of {BACKLOG_EVENTS:,} events, {name}, seconds", seconds, 30),
    ]


def _cpu_seconds_of_training(run: TrackedRun, training_dir: Path, others: list[psutil.Process]) -> float:
    """Return the CPU time of everything that tracking does during training, without the waits between uploads."""
    client, run_id = run.connect()
    client.get_run(run_id)  # opens the connection, which is not measured
    events, monitors = list(_events()), find_monitors()
    writer = EventWriter(events_path(training_dir))
    sample_writer = EventWriter(events_path(run.outbox.folder.samples))
    polls = round(TRAINING_SECONDS / POLL_SECONDS)
    before = _cpu_seconds(others)
    for poll in range(polls):
        for event in events[poll * len(events) // polls : (poll + 1) * len(events) // polls]:
            writer.write(event)
        claim_new_events(run.session, training_dir)
        if run.outbox.flush():
            upload_new_events(client, run_id, run.session, training_dir)
        if poll % round(SYSTEM_SECONDS / POLL_SECONDS) == 0:
            sample_writer.write(take_sample(monitors))
        if poll % round(UPLOAD_SECONDS / POLL_SECONDS) == 0:
            upload_new_events(client, run_id, run.session, run.outbox.folder.samples)
    after = _cpu_seconds(others)
    writer.close()
    sample_writer.close()
    return after - before


def _cpu_seconds(others: list[psutil.Process]) -> float:
    return time.process_time() + sum(sum(process.cpu_times()[:2]) for process in others)


def _seconds_of_backlog(run: TrackedRun, training_dir: Path) -> float:
    writer = EventWriter(events_path(training_dir))
    for step in range(1, BACKLOG_EVENTS + 1):
        writer.write(_step(step, 1))
    writer.close()
    claim_new_events(run.session, training_dir)
    client, run_id = run.connect()
    started = time.monotonic()
    points = upload_new_events(client, run_id, run.session, training_dir)
    seconds = time.monotonic() - started
    print(f"{points:,} points in {seconds:.1f} s")
    return seconds


def _events() -> Iterator[AnyEvent]:
    """Yield the events that the sample's ranks write."""
    yield Started(
        ranks=2,
        device="cpu",
        epochs=EPOCHS,
        steps_per_epoch=STEPS_PER_EPOCH,
        train_images=2000,
        val_images=600,
        first_step=0,
        paddle_version="3.3.1",
    )
    for epoch in range(1, EPOCHS + 1):
        end = epoch * STEPS_PER_EPOCH
        for step in range(end - STEPS_PER_EPOCH + STEPS_PER_EVENT, end + 1, STEPS_PER_EVENT):
            yield _step(step, epoch)
        yield EpochEnd(epoch=epoch, step=end, loss=1.0, top1=0.5, images_per_second=30.0, seconds=33.0)
        yield EvalEnd(
            epoch=epoch, step=end, images=600, loss=1.0, top1=0.5, top5=0.9, images_per_second=90.0, is_best=True
        )


def _step(step: int, epoch: int) -> TrainStep:
    return TrainStep(
        time=1_764_000_000.0 + step,
        step=step,
        epoch=epoch,
        loss=1 / step,
        top1=0.5,
        learning_rate=0.1,
        images_per_second=30.0,
        reader_seconds=0.01,
        batch_seconds=0.5,
    )


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + 120
        while not _is_ready(uri):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((folder / "server.log").read_text())
            time.sleep(0.2)
        yield uri, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(uri: str) -> bool:
    try:
        urllib.request.urlopen(f"{uri}/health", timeout=1).close()  # noqa: S310
    except OSError:
        return False
    return True
