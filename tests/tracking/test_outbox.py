"""An unavailable server delays results, but none are lost. The tests kill and restart real server processes."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_stores import EXPERIMENT, SQLITE, client_of, find_runs, make_database, points, sqlite_store
from resnet50_pipeline.events import EventWriter, TrainStep
from resnet50_pipeline.tracking.address import OUTBOX
from resnet50_pipeline.tracking.delivery.curve_uploads import uploading_curves
from resnet50_pipeline.tracking.delivery.operations import EndRun, SetTags
from resnet50_pipeline.tracking.delivery.outbox import Outbox
from resnet50_pipeline.tracking.delivery.outbox_folder import STATE, OutboxFolder, OutboxState
from resnet50_pipeline.tracking.delivery.reconciliation import reconcile_runs
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun, open_run
from resnet50_pipeline.tracking.store import Store, resolve_store

DESCRIPTION = RunDescription("session-1", "ResNet50 probe", {"recipe": "probe"}, {"training": {"epochs": 3}})

# Tracks a run with files and curves while the server is down. The second argument determines how the process ends.
CHILD = """
import os, sys
from pathlib import Path
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.delivery.operations import UploadCurves
from resnet50_pipeline.tracking.runs import RunDescription, open_run

project, what, uri, experiment = Path(sys.argv[1]), *sys.argv[2:]
tracking = TrackingParameters(uri=uri, experiment=experiment, artifact_root=Path("mlartifacts"))
run = open_run(RunDescription("child", "ResNet50 child", {}, {"training": {"epochs": 3}}), tracking, project)
run.log_metrics({"evaluation/top1": 0.5})
run.log_artifact(project / "report.html", "evaluation")
run.outbox.deliver(UploadCurves(session=run.session, training_dir=project / "training"))
if what == "kill":
    os.kill(os.getpid(), 9)
run.end("FINISHED")
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Make requests to a stopped server fail immediately."""
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


def disk_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages about an outbox folder whose path is a file."""
    messages = [record.getMessage() for record in caplog.records]
    return [text for text in messages if f"Errno {errno.ENOTDIR}" in text or f"Errno {errno.EEXIST}" in text]


def loss_steps(run: TrackedRun) -> list[int]:
    client, run_id = run.connect()
    return [step for step, _ in points(client, run_id, "train/loss")]


@pytest.mark.slow
def test_a_server_that_dies_during_training_loses_no_points(server, project, caplog):
    """Training continues without the server, and every point and file is uploaded once when the server is back."""
    caplog.set_level(logging.INFO, logger="resnet50_pipeline")
    server.start()
    run = open_run(DESCRIPTION, server.parameters, project)
    with uploading_curves(run.outbox, project / "training", resumes=False, poll_seconds=0.1):
        write_steps(project / "training", 1, 50)
        wait_until(lambda: loss_steps(run) == list(range(1, 51)))
        server.kill()
        write_steps(project / "training", 51, 100)
        wait_until(lambda: any(record.name.endswith("curve_uploads") for record in caplog.records))
        run.log_metrics({"evaluation/top1": 0.5})
        run.log_artifact(project / "report.html", "evaluation")
        assert (project / OUTBOX / "session-1" / STATE).exists()
        server.start()
        write_steps(project / "training", 101, 120)
    run.end("FINISHED")
    client, run_id = run.connect()
    (stored,) = find_runs(client)
    assert stored.info.status == "FINISHED"
    assert loss_steps(run) == list(range(1, 121))
    assert points(client, run_id, "evaluation/top1") == [(0, 0.5)]
    assert [file.path for file in client.list_artifacts(run_id, "evaluation")] == ["evaluation/report.html"]
    assert not (project / OUTBOX).exists()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "status"), [("end", "FINISHED"), ("kill", "KILLED")])
def test_the_next_run_delivers_the_results_of_a_dead_process(server, project, what, status):
    """The next run uploads everything from a run that never reached the server, whether it ended or was killed."""
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
    delivered = {stored.info.run_name: stored for stored in find_runs(client)}
    assert set(delivered) == {"ResNet50 child", "ResNet50 probe"}
    late = delivered["ResNet50 child"]
    assert late.info.status == status
    assert late.data.params == {"training.epochs": "3"}
    assert late.data.metrics["evaluation/top1"] == 0.5
    assert [step for step, _ in points(client, late.info.run_id, "train/loss")] == list(range(1, 31))
    report = client.download_artifacts(late.info.run_id, "evaluation/report.html", str(project))
    assert Path(report).read_text() == "<html>"
    assert not (project / OUTBOX).exists()


def test_a_failed_request_pauses_further_requests(server, project, caplog, monkeypatch):
    """After a failure, further operations do not wait for the server, and only one warning mentions the outbox."""
    run = open_run(DESCRIPTION, server.parameters, project)
    run.outbox._retry_seconds = 3600
    requests: list[Store] = []

    def count(store: Store) -> None:
        requests.append(store)

    monkeypatch.setattr(Store, "require_answer", count)
    for number in range(200):
        run.set_tags({f"tag{number}": "value"})
    assert requests == []
    monkeypatch.undo()
    run.end("FINISHED")
    assert len([record for record in caplog.records if str(project / OUTBOX) in record.getMessage()]) == 1
    state = json.loads((project / OUTBOX / "session-1" / STATE).read_text())
    assert state["run_id"] is None
    assert [operation["kind"] for operation in state["operations"]] == ["log_params", *200 * ["set_tags"], "end_run"]


def test_an_unwritable_outbox_does_not_stop_the_run(server, project, caplog):
    """Without a server and an outbox, the run continues with one warning, and a final warning reports the loss."""
    (project / OUTBOX).write_text("a file instead of the folder")
    run = open_run(DESCRIPTION, server.parameters, project)
    with uploading_curves(run.outbox, project / "training", resumes=False, poll_seconds=0.1):
        write_steps(project / "training", 1, 5)
    for number in range(5):
        run.set_tags({f"tag{number}": "value"})
    run.log_artifact(project / "report.html", "evaluation")
    run.end("FINISHED")
    assert len(disk_warnings(caplog)) == 1
    assert str(project / OUTBOX / "session-1") in disk_warnings(caplog)[0]
    assert str(project / OUTBOX / "session-1") in caplog.records[-1].getMessage()
    assert (project / OUTBOX).read_text() == "a file instead of the folder"


@pytest.mark.slow
@pytest.mark.parametrize("becomes_writable", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_results_in_memory_arrive_when_the_server_is_back(server, project, becomes_writable):
    """Results in memory are delivered once, with their files, whether or not the outbox becomes writable."""
    (project / OUTBOX).write_text("")
    run = open_run(DESCRIPTION, server.parameters, project)
    run.log_metrics({"evaluation/top1": 0.5})
    run.log_artifact(project / "report.html", "evaluation")
    if becomes_writable:
        (project / OUTBOX).unlink()
        run.set_tags({"later": "yes"})
        assert (project / OUTBOX / "session-1" / "files" / "0" / "report.html").is_file()
    server.start()
    run.end("FINISHED")
    client, run_id = run.connect()
    (stored,) = find_runs(client)
    assert stored.info.status == "FINISHED"
    assert points(client, run_id, "evaluation/top1") == [(0, 0.5)]
    assert [file.path for file in client.list_artifacts(run_id, "evaluation")] == ["evaluation/report.html"]
    assert (project / OUTBOX).exists() != becomes_writable


def test_an_outbox_that_becomes_unwritable_does_not_stop_the_run(server, project, caplog):
    """The stored state stays intact, and only one warning is logged."""
    run = open_run(DESCRIPTION, server.parameters, project)
    stored = (project / OUTBOX / "session-1" / STATE).read_bytes()
    (project / OUTBOX / "session-1").rename(project / "aside")
    (project / OUTBOX / "session-1").write_text("")
    run.set_tags({"tag": "value"})
    run.set_tags({"other": "value"})
    assert len(disk_warnings(caplog)) == 1
    assert (project / "aside" / STATE).read_bytes() == stored
    run.end("FINISHED")


def test_a_rejected_request_does_not_block_the_others(project, caplog):
    """A request that can never succeed is dropped with a warning, and later ones are delivered."""
    run = open_run(DESCRIPTION, sqlite_store(project), project)
    run.log_metrics({"not a (valid) name": 1.0})
    run.log_metrics({"evaluation/top1": 0.5})
    run.end("FINISHED")
    (stored,) = find_runs(client_of(project))
    assert stored.data.metrics == {"evaluation/top1": 0.5}
    assert "log_metrics" in caplog.text


def test_results_for_a_deleted_experiment_are_saved(project):
    """If the experiment is deleted in the meantime, results stay on disk until it is restored."""
    store, client = resolve_store(sqlite_store(project), project), client_of(project)
    client.delete_experiment(store.find_experiment(client))
    process = ProcessIdentity.of_this_process()
    state = OutboxState(session="a", process=process, address=store.address, name="a", tags={}, start_time_ms=0)
    outbox = Outbox(OutboxFolder.of(project, "a"), store, state)
    assert not outbox.deliver(SetTags(tags={"tag": "value"}))
    assert [operation.kind for operation in outbox.folder.read().operations] == ["set_tags"]
    client.restore_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    assert outbox.deliver(EndRun(status="FINISHED", time_ms=1))
    (stored,) = find_runs(client)
    assert (stored.info.status, stored.data.tags["tag"]) == ("FINISHED", "value")
    assert not (project / OUTBOX).exists()


def test_outboxes_of_running_processes_and_other_stores_are_kept(server, project):
    """An outbox is delivered only if its process has ended, and only to its own store."""
    run = open_run(DESCRIPTION, server.parameters, project)
    run.end("FINISHED")
    path = project / OUTBOX / "session-1" / STATE
    waiting = json.loads(path.read_text())
    for process in (waiting["process"], waiting["process"] | {"started": 1.0}):
        path.write_text(json.dumps(waiting | {"process": process}))
        before = path.read_bytes()
        open_run(RunDescription("session-2", "next", {}, {}), sqlite_store(project), project).end("FINISHED")
        assert path.read_bytes() == before


def test_refused_files_do_not_hold_back_results(project, caplog):
    """If the artifact store rejects files, the run still receives its metrics and end state. The files follow."""
    tracking = sqlite_store(project)
    root = project / "mlartifacts"
    root.write_text("a file instead of a folder")
    (project / "report.html").write_text("<html>")
    run = open_run(DESCRIPTION, tracking, project)
    run.log_artifact(project / "report.html", "evaluation")
    run.log_artifact(project / "gone.html", "evaluation")
    run.log_metrics({"evaluation/top1": 0.5})
    run.end("FINISHED")
    client = client_of(project)
    (stored,) = find_runs(client)
    assert (stored.info.status, stored.data.metrics) == ("FINISHED", {"evaluation/top1": 0.5})
    waiting = OutboxFolder.of(project, "session-1")
    assert str(waiting.path) in caplog.text
    assert [operation.kind for operation in waiting.read().operations] == ["log_artifact"]
    root.unlink()
    dead = waiting.read()
    dead.process = dead.process.model_copy(update={"started": 1.0})
    waiting.write(dead)
    (box,) = reconcile_runs(resolve_store(tracking, project), project).outboxes
    assert box.fate == "delivered"
    (stored,) = find_runs(client)
    assert stored.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(stored.info.run_id, "evaluation")] == ["evaluation/report.html"]
    assert not (project / OUTBOX).exists()


def test_training_resumed_in_another_store_is_a_new_run(project, caplog):
    """Run IDs are only valid in their own store, so a new run starts, with a warning."""
    first = open_run(DESCRIPTION, sqlite_store(project), project)
    first.outbox.add(SetTags(tags={"waiting": "yes"}))
    state = first.outbox._state
    OutboxFolder.of(project, "session-1").write(state)
    make_database(project / "other.db")
    other = SQLITE.model_copy(update={"uri": "sqlite:///other.db"})
    second = open_run(replace(DESCRIPTION, session="session-2", continues="session-1"), other, project)
    second.end("FINISHED")
    (stored,) = find_runs(MlflowClient(f"sqlite:///{project / 'other.db'}"))
    assert (stored.info.status, stored.data.tags["waiting"]) == ("FINISHED", "yes")
    assert stored.info.run_id != first.run_id
    assert "other.db" in caplog.text
    first.end("KILLED")
