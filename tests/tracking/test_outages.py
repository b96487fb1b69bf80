"""No results are lost if the server is down at the start, in the middle or at the end of training.

The tests kill or freeze real servers. Training is a separate process that writes events as the ranks do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from test_outbox import loss_steps, wait_until, write_steps

from mlflow_stores import DESCRIPTION, MlflowServer, find_runs, points
from resnet50_pipeline.tracking.address import OUTBOX
from resnet50_pipeline.tracking.delivery.curve_uploads import uploading_curves
from resnet50_pipeline.tracking.delivery.curve_writer import upload_new_events
from resnet50_pipeline.tracking.delivery.reconciliation import reconcile_runs
from resnet50_pipeline.tracking.runs import TrackedRun, open_run
from resnet50_pipeline.training_dir import CURSOR

pytestmark = pytest.mark.slow

STEPS, STEP_SECONDS = 400, 0.01
TRAINING = f"""
import sys, time
from pathlib import Path
from resnet50_pipeline.events import EventWriter, TrainStep

writer = EventWriter(Path(sys.argv[1]) / "events.jsonl")
for step in range(1, {STEPS} + 1):
    writer.write(TrainStep(step=step, epoch=1, loss=1 / step, top1=0.5, learning_rate=0.1, images_per_second=30,
                           reader_seconds=0, batch_seconds=0.5))
    time.sleep({STEP_SECONDS})
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Make requests to a stopped server fail immediately."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def start_training(project: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TRAINING, str(project / "training")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(training: subprocess.Popen[str]) -> None:
    """Wait for training to end, which it would not if a step waited for the server."""
    training.communicate(timeout=120)
    assert training.returncode == 0


def log_results(run: TrackedRun, project: Path) -> None:
    """Log what the stages after training log, and end the run."""
    run.log_metrics({"evaluation/top1": 0.5})
    run.log_artifact(project / "report.html", "evaluation")
    run.end("FINISHED")


def assert_everything_arrived_once(server: MlflowServer, project: Path) -> None:
    client = server.client()
    (stored,) = find_runs(client)
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"training.epochs": "3"}
    steps = [step for step, _ in points(client, stored.info.run_id, "train/loss")]
    assert steps == list(range(1, STEPS + 1))
    assert points(client, stored.info.run_id, "evaluation/top1") == [(0, 0.5)]
    assert [file.path for file in client.list_artifacts(stored.info.run_id, "evaluation")] == ["evaluation/report.html"]
    assert not (project / OUTBOX).exists()


def describe():
    from dataclasses import replace

    return replace(DESCRIPTION, params={"training": {"epochs": 3}})


def test_server_down_at_the_start(server, project):
    """If the server starts during training, all points are uploaded."""
    run = open_run(describe(), server.parameters, project)
    assert run.run_id is None
    run.outbox._retry_seconds = 0.2  # 30 seconds by default, which is too long for this test
    training = start_training(project)
    with uploading_curves(run.outbox, project / "training", resumes=False, poll_seconds=0.1):
        server.start()
        wait_until(lambda: run.run_id is not None and bool(loss_steps(run)))
        finish(training)
    log_results(run, project)
    assert_everything_arrived_once(server, project)


def test_server_killed_in_the_middle(server, project):
    """If the server dies during an upload and is restarted, all points are uploaded once."""
    server.start()
    run = open_run(describe(), server.parameters, project)
    training = start_training(project)
    with uploading_curves(run.outbox, project / "training", resumes=False, poll_seconds=0.02):
        wait_until(lambda: bool(loss_steps(run)))
        server.kill()
        finish(training)
        server.start()
    log_results(run, project)
    assert_everything_arrived_once(server, project)


@pytest.mark.exhaustive
def test_server_killed_with_two_requests_in_flight(server, project):
    """A killed server may have stored either request. After a second upload, every point is stored once."""
    server.start()
    run = open_run(describe(), server.parameters, project)
    training = project / "training"
    write_steps(training, 1, 4000)
    client, run_id = run.connect()
    killer = threading.Thread(target=lambda: (wait_until((training / CURSOR).exists), server.kill()))
    killer.start()
    with pytest.raises(MlflowException, match=str(server.port)):
        upload_new_events(client, run_id, run.session, training)
    killer.join()
    uploaded = json.loads((training / CURSOR).read_text())["last_step"]["train"]
    assert 0 < uploaded < 4000
    server.start()
    assert upload_new_events(client, run_id, run.session, training) == 5 * (4000 - uploaded)
    assert loss_steps(run) == list(range(1, 4001))


def test_server_down_at_the_end(server, project):
    """Points that a dead server missed at the end of a process are uploaded by the next one once the server is back."""
    server.start()
    run = open_run(describe(), server.parameters, project)
    training = start_training(project)
    with uploading_curves(run.outbox, project / "training", resumes=False, poll_seconds=0.05):
        wait_until(lambda: bool(loss_steps(run)))
        server.kill()
        finish(training)
    log_results(run, project)
    (state,) = (project / OUTBOX).glob("*/outbox.json")
    left = json.loads(state.read_text())
    state.write_text(json.dumps(left | {"process": left["process"] | {"started": 1.0}}))  # as if it had ended
    server.start()
    assert reconcile_runs(run.store, project).is_complete
    assert_everything_arrived_once(server, project)


def test_a_frozen_server_delays_operations_by_seconds_only(server, project, monkeypatch):
    """Operations wait a few seconds for a server that never responds, but training does not."""
    server.start()
    run = open_run(describe(), server.parameters, project)
    training = start_training(project)
    # The first request waits for ANSWER_SECONDS. All others would exceed the test's time limit.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3600")
    with uploading_curves(run.outbox, project / "training", resumes=False, poll_seconds=0.05):
        wait_until(lambda: bool(loss_steps(run)))
        server.freeze()
        finish(training)
        run.log_metrics({"evaluation/top1": 0.5})
    server.thaw()
    run.log_artifact(project / "report.html", "evaluation")
    run.end("FINISHED")
    wait_until(lambda: not (project / OUTBOX).exists())
    assert_everything_arrived_once(server, project)
