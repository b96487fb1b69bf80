"""A server that is away at the start, in the middle or at the end of a training: real ones, killed or frozen.

The training is a process of its own, as ranks are, that writes its events at its own pace.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from test_outbox import loss_steps, wait_until, write_steps

from mlflow_stores import DESCRIPTION, MlflowServer, find_runs, points
from resnet50_pipeline.tracking.curves import CURSOR, upload_new_events
from resnet50_pipeline.tracking.outbox import FOLDER
from resnet50_pipeline.tracking.reconciliation import reconcile_runs
from resnet50_pipeline.tracking.runs import TrackedRun, open_run
from resnet50_pipeline.tracking.store import ANSWER_SECONDS
from resnet50_pipeline.tracking.uploader import uploading_curves

pytestmark = pytest.mark.slow

STEPS, STEP_SECONDS = 400, 0.01
TRAINING = f"""
import sys, time
from pathlib import Path
from resnet50_pipeline.events import EventWriter, TrainStep

writer = EventWriter(Path(sys.argv[1]) / "events.jsonl")
slowest = 0.0
for step in range(1, {STEPS} + 1):
    before = time.monotonic()
    writer.write(TrainStep(step=step, epoch=1, loss=1 / step, top1=0.5, learning_rate=0.1, images_per_second=30,
                           reader_seconds=0, batch_seconds=0.5))
    slowest = max(slowest, time.monotonic() - before)
    time.sleep({STEP_SECONDS})
print(slowest)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A request to a server that is not there fails at once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def start_training(project: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TRAINING, str(project / "training")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(training: subprocess.Popen[str]) -> None:
    """Wait for the training, and check that no single step of it waited for anything."""
    slowest, _ = training.communicate(timeout=120)
    assert training.returncode == 0
    assert float(slowest) < 1


def tell_results(run: TrackedRun, project: Path) -> None:
    """Do what follows a training."""
    run.log_metrics({"evaluation/top1": 0.5})
    run.log_artifact(project / "report.html", "evaluation")
    run.end("FINISHED")


def assert_everything_is_there_once(server: MlflowServer, project: Path) -> None:
    client = server.client()
    (stored,) = find_runs(client)
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"training.epochs": "3"}
    steps = [step for step, _ in points(client, stored.info.run_id, "train/loss")]
    assert steps == list(range(1, STEPS + 1))
    assert points(client, stored.info.run_id, "evaluation/top1") == [(0, 0.5)]
    assert [file.path for file in client.list_artifacts(stored.info.run_id, "evaluation")] == ["evaluation/report.html"]
    assert not (project / FOLDER).exists()


def describe():
    from dataclasses import replace

    return replace(DESCRIPTION, params={"training": {"epochs": 3}})


def test_away_at_the_start(server, project):
    """The run begins without a server, and gets one while the training is under way."""
    run = open_run(describe(), server.parameters, project)
    assert run.run_id is None
    run._outbox._retry_seconds = 0.2  # half a minute, in a training that takes days
    training = start_training(project)
    with uploading_curves(run, project / "training", continues=False, poll_seconds=0.1):
        server.start()
        wait_until(lambda: run.run_id is not None and bool(loss_steps(run)))
        finish(training)
    tell_results(run, project)
    assert_everything_is_there_once(server, project)


def test_killed_and_back_in_the_middle(server, project):
    """The server dies while points are on their way to it, and comes back."""
    server.start()
    run = open_run(describe(), server.parameters, project)
    training = start_training(project)
    with uploading_curves(run, project / "training", continues=False, poll_seconds=0.02):
        wait_until(lambda: bool(loss_steps(run)))
        server.kill()
        finish(training)
        server.start()
    tell_results(run, project)
    assert_everything_is_there_once(server, project)


def test_killed_with_several_requests_of_a_backlog_under_way(server, project):
    """What a killed server took of two requests at a time is not known; sent again, every point is there once."""
    server.start()
    run = open_run(describe(), server.parameters, project)
    training = project / "training"
    write_steps(training, 1, 4000)
    client, run_id = run.connect()
    killer = threading.Thread(target=lambda: (wait_until((training / CURSOR).exists), server.kill()))
    killer.start()
    with pytest.raises(MlflowException, match="HTTPConnectionPool"):
        upload_new_events(client, run_id, run.session, training)
    killer.join()
    taken = json.loads((training / CURSOR).read_text())["last_step"]["train"]
    assert 0 < taken < 4000
    server.start()
    assert upload_new_events(client, run_id, run.session, training) == 5 * (4000 - taken)
    assert loss_steps(run) == list(range(1, 4001))


def test_killed_before_the_end(server, project):
    """The server dies before the last points, and is back only after the process has gone: the next one tells it."""
    server.start()
    run = open_run(describe(), server.parameters, project)
    training = start_training(project)
    with uploading_curves(run, project / "training", continues=False, poll_seconds=0.05):
        wait_until(lambda: bool(loss_steps(run)))
        server.kill()
        finish(training)
    tell_results(run, project)
    (state,) = (project / FOLDER).glob("*/outbox.json")
    left = json.loads(state.read_text())
    state.write_text(json.dumps(left | {"process": left["process"] | {"started": 1.0}}))  # as if it were gone
    server.start()
    assert reconcile_runs(run.store, project).is_complete
    assert_everything_is_there_once(server, project)


def test_a_server_that_hangs_holds_up_nothing_for_long(server, project):
    """A frozen server takes connections and answers none: each message costs seconds, and the training none."""
    server.start()
    run = open_run(describe(), server.parameters, project)
    training = start_training(project)
    with uploading_curves(run, project / "training", continues=False, poll_seconds=0.05):
        wait_until(lambda: bool(loss_steps(run)))
        server.freeze()
        finish(training)
        before = time.monotonic()
        run.log_metrics({"evaluation/top1": 0.5})
        assert time.monotonic() - before < ANSWER_SECONDS + 2
        before = time.monotonic()
    assert time.monotonic() - before < 10 + ANSWER_SECONDS + 2
    server.thaw()
    run.log_artifact(project / "report.html", "evaluation")
    run.end("FINISHED")
    wait_until(lambda: not (project / FOLDER).exists())
    assert_everything_is_there_once(server, project)
