"""MLflow runs have the right content and final state, however their process ends. The processes are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mlflow_stores import DESCRIPTION, EXPERIMENT, SQLITE, client_of, find_runs, sqlite_store
from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.tracking.delivery.operations import LogDataset
from resnet50_pipeline.tracking.limits import MAX_PARAM_LENGTH
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun, flatten_params, open_run, require_current_run

# Opens a run, prints a line, and ends as its argument specifies.
CHILD = """
import sys, time
from pathlib import Path
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.runs import RunDescription, open_run

project, what = Path(sys.argv[1]), sys.argv[2]
tracking = TrackingParameters(uri="sqlite:///mlflow.db", experiment=sys.argv[3], artifact_root=Path("mlartifacts"))
run = open_run(RunDescription(what, "ResNet50 " + what, {}, {}), tracking, project)
print("open", flush=True)
if what == "wait":
    time.sleep(60)
if what == "end":
    run.end("FINISHED")
if what == "raise":
    raise KeyboardInterrupt
"""


def start_child(project: Path, what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(project), what, EXPERIMENT]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    return child


@pytest.fixture
def project(tmp_path):
    """A project folder with an empty store. Its name contains a quote."""
    folder = tmp_path / "a user's project"
    folder.mkdir()
    sqlite_store(folder)
    return folder


def open_probe(project: Path, session: str = "session-1", **params: object) -> TrackedRun:
    return open_run(RunDescription(session, DESCRIPTION.name, DESCRIPTION.tags, params), SQLITE, project)


def test_a_run_has_name_tags_and_flat_parameters(project):
    """MLflow stores the name, the tags, the process and the parameters, which are keyed by dotted name."""
    run = open_probe(project, dataset=DatasetParameters(class_num=10), note={"empty": {}, "n": [1, 2]})
    run.end("FINISHED")
    (stored,) = find_runs(client_of(project))
    assert stored.info.run_name == "ResNet50 probe"
    assert stored.info.status == "FINISHED"
    assert stored.data.tags["recipe"] == "ResNet50/probe"
    assert stored.data.tags["process.pid"] == str(os.getpid())
    assert stored.data.params["dataset.class_num"] == "10"
    assert stored.data.params["dataset.train_list"] == "train_list.txt"
    assert (stored.data.params["note.empty"], stored.data.params["note.n"]) == ("{}", "[1, 2]")


def test_mlflow_limits_are_respected(project):
    """Long values are truncated, invalid names are changed, and more than 100 parameters can be logged."""
    many = {f"field{number}": number for number in range(250)}
    run = open_probe(project, group={"long": "x" * 9000, "what (is) it?": 1} | many)
    run.set_tags({"error": "y" * 9000})
    run.end("FAILED")
    (stored,) = find_runs(client_of(project))
    assert len(stored.data.params) == 252
    assert len(stored.data.params["group.long"]) == MAX_PARAM_LENGTH
    assert stored.data.params["group.what _is_ it_"] == "1"
    assert stored.data.tags["error"].endswith("…")


def test_only_mappings_are_flattened():
    """A list, a number and None each become one value."""
    assert flatten_params({"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": None}) == {
        "a.b.c": "1",
        "a.d": "[1, {'e': 2}]",
        "f": "None",
    }


def test_metrics_files_and_datasets_are_logged(project):
    """The run has the metrics, the file, the folder and both splits of the dataset."""
    (project / "plots").mkdir()
    (project / "plots" / "curve.png").write_bytes(b"png")
    (project / "report.html").write_text("<html>")
    run = open_probe(project)
    run.log_metrics({"evaluation/top1": 0.75})
    run.log_artifact(project / "plots", "evaluation")
    run.log_artifact(project / "report.html", "evaluation")
    for split, context in (("train", "training"), ("val", "validation")):
        run.outbox.deliver(
            LogDataset(name=f"digits/{split}", digest="sha256:" + 64 * "a", context=context, source="{}", profile="{}")
        )
    run.end("FINISHED")
    client = client_of(project)
    (stored,) = find_runs(client)
    assert stored.data.metrics["evaluation/top1"] == 0.75
    artifacts = Path(unquote(urlsplit(stored.info.artifact_uri).path))
    assert artifacts.is_relative_to(project / "mlartifacts")
    assert (artifacts / "evaluation" / "plots" / "curve.png").read_bytes() == b"png"
    assert (artifacts / "evaluation" / "report.html").read_text() == "<html>"
    inputs = {(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in stored.inputs.dataset_inputs}
    assert inputs == {("digits/train", 36 * "a", "training"), ("digits/val", 36 * "a", "validation")}


@pytest.mark.parametrize("state", ["FINISHED", "FAILED", "KILLED"])
def test_only_the_first_end_has_an_effect(project, state):
    """A second call to `end` does not change the end state."""
    run = open_probe(project)
    run.end(state)
    run.end("FINISHED")
    (stored,) = find_runs(client_of(project))
    assert stored.info.status == state
    assert stored.info.end_time >= stored.info.start_time


def test_the_open_run_can_be_required(project):
    """`require_current_run` returns the open run, and raises an error after the run has ended."""
    run = open_probe(project)
    assert require_current_run() is run
    run.end("FINISHED")
    with pytest.raises(TrackingError):
        require_current_run()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "exit_code", "status"),
    [("end", 0, "FINISHED"), ("raise", -signal.SIGINT, "KILLED"), ("forget", 0, "KILLED")],
    ids=["ends its run", "is interrupted outside the hooks", "exits with the run open"],
)
def test_a_process_that_exits_leaves_the_correct_end_state(project, what, exit_code, status):
    """A process that exits with an open run sets it to KILLED; MLflow's own atexit hook would set it to FINISHED."""
    assert start_child(project, what).wait(60) == exit_code
    (stored,) = find_runs(client_of(project))
    assert stored.info.status == status


@pytest.mark.slow
def test_the_next_run_ends_the_run_of_a_sigkilled_process(project):
    """SIGKILL leaves the run RUNNING. The next run changes it to KILLED, but does not change runs of live processes."""
    dead, alive = start_child(project, "wait"), start_child(project, "wait")
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    by_pid = {run.data.tags["process.pid"]: run for run in find_runs(client_of(project))}
    assert by_pid[str(dead.pid)].info.status == "RUNNING"
    open_probe(project).end("FINISHED")
    by_pid = {run.data.tags["process.pid"]: run for run in find_runs(client_of(project))}
    assert by_pid[str(dead.pid)].info.status == "KILLED"
    assert by_pid[str(alive.pid)].info.status == "RUNNING"
    alive.kill()
    alive.wait()


def test_runs_of_other_projects_and_hosts_do_not_change(project):
    """Reconciliation ignores runs in progress that belong to other project folders or machines."""
    other = ProcessIdentity(host="elsewhere", pid=1, started=0.0)
    gone = ProcessIdentity.of_this_process().model_copy(update={"started": 1.0})
    open_probe(project).end("FINISHED")
    client = client_of(project)
    experiment_id = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs = [
        client.create_run(experiment_id, tags={**other.as_tags(), "project.path": str(project)}),
        client.create_run(experiment_id, tags={**gone.as_tags(), "project.path": "/another/project"}),
        client.create_run(experiment_id),
    ]
    open_probe(project, session="session-2").end("FINISHED")
    assert {client.get_run(run.info.run_id).info.status for run in runs} == {"RUNNING"}


def test_a_reused_pid_is_another_process():
    """A process with the same PID but a different start time is not the same process."""
    this = ProcessIdentity.of_this_process()
    assert this.may_be_alive()
    assert not this.model_copy(update={"started": this.started - 60}).may_be_alive()
    assert ProcessIdentity.from_tags(this.as_tags()) == this


def test_an_edited_description_is_kept(project):
    """The description of a run can be replaced until someone edits it in MLflow."""
    run = open_probe(project)
    for note in ("top-1 75%", "top-1 80%"):
        run.describe(note, run.read())
    client = client_of(project)
    (found,) = find_runs(client, EXPERIMENT)
    assert found.data.tags["mlflow.note.content"] == "top-1 80%"
    client.set_tag(found.info.run_id, "mlflow.note.content", "my note")
    run.describe("top-1 85%", run.read())
    run.end("FINISHED")
    assert client.get_run(found.info.run_id).data.tags["mlflow.note.content"] == "my note"
