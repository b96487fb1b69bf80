"""What a dead server costs: nothing but a delay. Real `mlflow server` processes that are killed and come back."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_stores import EXPERIMENT, find_runs, points
from resnet50_pipeline.events import EventWriter, TrainStep
from resnet50_pipeline.tracking.outbox import FOLDER, STATE
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun, open_run
from resnet50_pipeline.tracking.uploader import uploading_curves

DESCRIPTION = RunDescription("session-1", "ResNet50 probe", {"recipe": "probe"}, {"training": {"epochs": 3}})

# Tracks a run with files and curves while no server answers, and ends as its second argument says.
CHILD = """
import os, sys
from pathlib import Path
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.runs import RunDescription, open_run

project, what, uri, experiment = Path(sys.argv[1]), *sys.argv[2:]
tracking = TrackingParameters(uri=uri, experiment=experiment, artifact_root=Path("mlartifacts"))
run = open_run(RunDescription("child", "ResNet50 child", {}, {"training": {"epochs": 3}}), tracking, project)
run.log_metrics({"evaluation/top1": 0.5})
run.log_artifact(project / "report.html", "evaluation")
run.upload_curves(project / "training")
if what == "kill":
    os.kill(os.getpid(), 9)
run.end("FINISHED")
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A request to a server that is not there fails at once, and is tried again soon."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


def write_steps(folder: Path, first: int, last: int) -> None:
    writer = EventWriter(folder / "events.jsonl")
    for number in range(first, last + 1):
        writer.write(
            TrainStep(
                time=1_764_000_000 + number,
                step=number,
                epoch=1,
                loss=1 / number,
                top1=0.5,
                learning_rate=0.1,
                images_per_second=30,
                reader_seconds=0,
                batch_seconds=0.5,
            )
        )
    writer.close()


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def loss_steps(run: TrackedRun) -> list[int]:
    client, run_id = run.connect()
    return [step for step, _ in points(client, run_id, "train/loss")]


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_costs_no_point(server, project, caplog):
    """Training goes on while the server is gone; when it is back every point and file is there, once."""
    caplog.set_level(logging.INFO, logger="resnet50_pipeline")
    server.start()
    run = open_run(DESCRIPTION, server.parameters, project)
    with uploading_curves(run, project / "training", continues=False, poll_seconds=0.1):
        write_steps(project / "training", 1, 50)
        wait_until(lambda: loss_steps(run) == list(range(1, 51)))
        server.kill()
        write_steps(project / "training", 51, 100)
        wait_until(lambda: "the curves wait for MLflow" in caplog.text)
        run.log_metrics({"evaluation/top1": 0.5})
        run.log_artifact(project / "report.html", "evaluation")
        assert (project / FOLDER / "session-1" / STATE).exists()
        server.start()
        write_steps(project / "training", 101, 120)
    run.end("FINISHED")
    client, run_id = run.connect()
    (stored,) = find_runs(client)
    assert stored.info.status == "FINISHED"
    assert loss_steps(run) == list(range(1, 121))
    assert points(client, run_id, "evaluation/top1") == [(0, 0.5)]
    assert [file.path for file in client.list_artifacts(run_id, "evaluation")] == ["evaluation/report.html"]
    assert not (project / FOLDER).exists()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "status"), [("end", "FINISHED"), ("kill", "KILLED")])
def test_what_a_process_could_not_tell_is_told_by_the_next(server, project, what, status):
    """A run without any server, ended or SIGKILLed, arrives whole when the next run finds the server up."""
    write_steps(project / "training", 1, 30)
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(project), what, server.uri, EXPERIMENT]
    subprocess.run(command, check=what == "end", timeout=120, stderr=subprocess.DEVNULL)
    (project / "report.html").write_text("of a later run")
    (project / "training" / "events.jsonl").unlink()
    write_steps(project / "training", 1, 3)
    server.start()
    run = open_run(DESCRIPTION, server.parameters, project)
    run.end("FINISHED")
    client, _ = run.connect()
    told = {stored.info.run_name: stored for stored in find_runs(client)}
    assert set(told) == {"ResNet50 child", "ResNet50 probe"}
    late = told["ResNet50 child"]
    assert late.info.status == status
    assert late.data.params == {"training.epochs": "3"}
    assert late.data.metrics["evaluation/top1"] == 0.5
    assert [step for step, _ in points(client, late.info.run_id, "train/loss")] == list(range(1, 31))
    report = client.download_artifacts(late.info.run_id, "evaluation/report.html", str(project))
    assert Path(report).read_text() == "<html>"
    assert not (project / FOLDER).exists()


def test_a_dead_server_is_left_alone_for_a_while(server, project, caplog):
    """After one failure nothing waits for the server again and again, and one warning says where things wait."""
    run = open_run(DESCRIPTION, server.parameters, project)
    before = time.monotonic()
    for number in range(200):
        run.set_tags({f"tag{number}": "value"})
    assert time.monotonic() - before < 5
    run.end("FINISHED")
    assert caplog.text.count("does not take what it is told") == 1
    state = json.loads((project / FOLDER / "session-1" / STATE).read_text())
    assert state["run_id"] is None
    assert [operation["kind"] for operation in state["operations"]] == ["log_params", *200 * ["set_tags"], "end_run"]


def test_what_mlflow_refuses_for_good_does_not_hold_up_the_rest(project, caplog):
    """A request that can never succeed is named in a warning and dropped; what comes after it is delivered."""
    from mlflow_stores import client_of, sqlite_store

    run = open_run(DESCRIPTION, sqlite_store(project), project)
    run.log_metrics({"not a (valid) name": 1.0})
    run.log_metrics({"evaluation/top1": 0.5})
    run.end("FINISHED")
    (stored,) = find_runs(client_of(project))
    assert stored.data.metrics == {"evaluation/top1": 0.5}
    assert "MLflow refuses log_metrics" in caplog.text


def test_an_outbox_of_a_living_process_or_another_store_is_left_as_it_is(server, project):
    """Only what nobody else will deliver is delivered, and only to the store that it was meant for."""
    from mlflow_stores import sqlite_store

    run = open_run(DESCRIPTION, server.parameters, project)
    run.end("FINISHED")
    path = project / FOLDER / "session-1" / STATE
    waiting = json.loads(path.read_text())
    for process in (waiting["process"], waiting["process"] | {"started": 1.0}):
        path.write_text(json.dumps(waiting | {"process": process}))
        before = path.read_bytes()
        open_run(RunDescription("session-2", "next", {}, {}), sqlite_store(project), project).end("FINISHED")
        assert path.read_bytes() == before
