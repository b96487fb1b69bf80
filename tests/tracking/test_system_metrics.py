"""System metrics become curves of the run, even if the process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mlflow_stores import DESCRIPTION, SQLITE, client_of, find_runs, points, sqlite_store
from resnet50_pipeline.events import EventWriter
from resnet50_pipeline.tracking.address import OUTBOX
from resnet50_pipeline.tracking.delivery.curve_points import SystemSample
from resnet50_pipeline.tracking.delivery.operations import UploadCurves
from resnet50_pipeline.tracking.delivery.reconciliation import reconcile_runs
from resnet50_pipeline.tracking.delivery.system_metrics import find_monitors, recording_system_metrics, take_sample
from resnet50_pipeline.tracking.runs import RunDescription, open_run
from resnet50_pipeline.training_dir import events_path

NAMES = {"cpu_utilization_percentage", "system_memory_usage_megabytes", "system_memory_usage_percentage"}
CURVE = "system/cpu_utilization_percentage"

# Records samples that are not uploaded before SIGKILL. The argument is the project folder.
KILLED = """
import os, sys, time
from pathlib import Path
from mlflow_stores import DESCRIPTION, SQLITE
from resnet50_pipeline.tracking.delivery.system_metrics import recording_system_metrics
from resnet50_pipeline.tracking.runs import RunDescription, open_run
from resnet50_pipeline.training_dir import events_path

run = open_run(DESCRIPTION, SQLITE, Path(sys.argv[1]))
with recording_system_metrics(run.outbox, interval_seconds=0.02):
    while events_path(run.outbox.folder.samples).read_bytes().count(b"\\n") < 3:
        time.sleep(0.02)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def run(tmp_path):
    """An open run in a new store."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    yield run
    run.end("FINISHED")


def test_processor_and_memory_have_mlflows_own_names():
    """A sample describes this machine with the names that MLflow's system metrics tab expects."""
    before = time.time()
    sample = take_sample(find_monitors())
    assert before - 1 <= sample.time <= time.time() + 1  # events store a rounded time
    assert set(sample.values) >= NAMES
    assert 0 < sample.values["system_memory_usage_percentage"] < 100


def test_short_and_long_runs_have_a_curve(run, tmp_path):
    """Every sample is uploaded once, and a block that is shorter than the interval adds one point."""
    with recording_system_metrics(run.outbox, interval_seconds=0.02):
        time.sleep(1)
    _, run_id = run.connect()
    curve = points(client_of(tmp_path), run_id, CURVE)
    assert len(curve) > 6
    assert len(curve) == events_path(run.outbox.folder.samples).read_bytes().count(b"\n")
    with recording_system_metrics(run.outbox, interval_seconds=60):
        pass
    assert len(points(client_of(tmp_path), run_id, CURVE)) == len(curve) + 1


def test_the_x_axis_is_seconds_since_the_run_started(run, tmp_path):
    """A sample's step is the number of seconds since the run started, and samples uploaded twice are stored once."""
    client, run_id = run.connect()
    start_seconds = client.get_run(run_id).info.start_time / 1000
    writer = EventWriter(events_path(tmp_path / "samples"))
    for age in (0, 90, 3600):
        writer.write(SystemSample(time=start_seconds + age, values={"x": age / 2}))
    writer.close()
    for session in (run.session, "another session, which starts from the beginning"):
        run.outbox.deliver(UploadCurves(session=session, training_dir=tmp_path / "samples"))
    assert points(client, run_id, "system/x") == [(0, 0.0), (90, 45.0), (3600, 1800.0)]


def test_a_failing_monitor_does_not_end_the_run(run, tmp_path, monkeypatch):
    """Without samples, the run has no system curves but still finishes."""
    monkeypatch.setattr("psutil.cpu_percent", lambda: 1 / 0)
    with recording_system_metrics(run.outbox, interval_seconds=0.02):
        time.sleep(0.2)
    run.end("FINISHED")
    (stored,) = find_runs(client_of(tmp_path))
    assert stored.info.status == "FINISHED"
    assert CURVE not in stored.data.metrics


def test_an_unwritable_outbox_does_not_end_the_run(tmp_path, caplog):
    """If samples cannot be stored, one warning identifies the folder and the run continues."""
    (tmp_path / OUTBOX).write_text("a file instead of the folder")
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    with recording_system_metrics(run.outbox, interval_seconds=0.02):
        run.set_tags({"tag": "value"})
    run.end("FINISHED")
    assert len([record for record in caplog.records if str(tmp_path / OUTBOX) in record.getMessage()]) == 1
    (stored,) = find_runs(client_of(tmp_path))
    assert (stored.info.status, stored.data.tags["tag"]) == ("FINISHED", "value")


def test_the_outbox_folder_is_removed_when_the_run_ends(run, tmp_path):
    """Samples are on disk while the run is open, and nothing remains after its end."""
    with recording_system_metrics(run.outbox, interval_seconds=60):
        run.set_tags({"tag": "value"})
        assert events_path(run.outbox.folder.samples).exists()
    run.end("FINISHED")
    assert not (tmp_path / OUTBOX).exists()


@pytest.mark.slow
def test_samples_of_a_killed_process_are_uploaded_by_the_next_one(tmp_path):
    """After SIGKILL, the next reconciliation uploads the remaining samples, ends the run and removes the folder."""
    sqlite_store(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    lines = events_path(tmp_path / OUTBOX / DESCRIPTION.session / "system").read_bytes().count(b"\n")
    later = open_run(RunDescription("session-2", "later", {}, {}), SQLITE, tmp_path)
    assert reconcile_runs(later.store, tmp_path).is_complete
    later.end("FINISHED")
    client = client_of(tmp_path)
    killed, _ = find_runs(client)
    assert killed.info.status == "KILLED"
    assert len(points(client, killed.info.run_id, CURVE)) == lines
    assert not (tmp_path / OUTBOX).exists()
