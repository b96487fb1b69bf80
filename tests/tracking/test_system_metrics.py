"""What the machine did is on curves of the run, whatever the server does meanwhile."""

from __future__ import annotations

import time

import pytest

from mlflow_stores import DESCRIPTION, client_of, find_runs, points, sqlite_store
from resnet50_pipeline.tracking.operations import LogSystemMetrics, SystemSample
from resnet50_pipeline.tracking.runs import open_run
from resnet50_pipeline.tracking.system_metrics import find_monitors, look, sampling_system_metrics

SEEN = {"cpu_utilization_percentage", "system_memory_usage_megabytes", "system_memory_usage_percentage"}


@pytest.fixture
def run(tmp_path):
    """An open run in a new store."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    yield run
    run.end("FINISHED")


def test_processor_and_memory_are_seen_under_mlflows_own_names():
    """The values are of this machine, named as the page's tab of system metrics knows them."""
    sample = look(find_monitors())
    assert set(sample.values) >= SEEN
    assert 0 < sample.values["system_memory_usage_percentage"] < 100
    assert abs(sample.time_ms / 1000 - time.time()) < 60


def test_a_run_of_seconds_has_a_point_and_a_longer_one_its_curve(run, tmp_path):
    """What was not uploaded on the way is told with the last look, each look once."""
    with sampling_system_metrics(run, interval_seconds=0.02):
        time.sleep(1)
    _, run_id = run.connect()
    curve = points(client_of(tmp_path), run_id, "system/cpu_utilization_percentage")
    assert len(curve) > 6
    with sampling_system_metrics(run, interval_seconds=60):
        pass
    assert len(points(client_of(tmp_path), run_id, "system/cpu_utilization_percentage")) == len(curve) + 1


def test_the_axis_is_seconds_since_the_run_began(run, tmp_path):
    """Also after a run was resumed, and where the same samples are told twice."""
    client, run_id = run.connect()
    start_ms = client.get_run(run_id).info.start_time
    samples = [SystemSample(time_ms=start_ms + 1000 * second, values={"x": second / 2}) for second in (0, 90, 3600)]
    for _ in range(2):
        run.tell(LogSystemMetrics(samples=samples))
    assert points(client, run_id, "system/x") == [(0, 0.0), (90, 45.0), (3600, 1800.0)]


def test_a_monitor_that_fails_ends_no_run(run, tmp_path, monkeypatch):
    """A machine that cannot be looked at costs its curves and nothing else."""
    monkeypatch.setattr("psutil.cpu_percent", lambda: 1 / 0)
    with sampling_system_metrics(run, interval_seconds=0.02):
        time.sleep(0.2)
    run.end("FINISHED")
    (stored,) = find_runs(client_of(tmp_path))
    assert stored.info.status == "FINISHED"
