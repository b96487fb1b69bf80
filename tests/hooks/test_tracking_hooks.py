"""Each Kedro run is one MLflow run. The tests run real sessions of a small project with this project's hooks."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from mlflow_stores import client_of, find_runs, points
from probe_project import ProbeProject

pytestmark = pytest.mark.slow  # processes that import Kedro and MLflow

EXPERIMENT = "resnet50-digits"


def the_run(project: ProbeProject):
    (run,) = find_runs(client_of(project.path), EXPERIMENT)
    return run


def interrupt(project: ProbeProject, behavior: str, number: signal.Signals, after: float = 0.0) -> tuple[int, str]:
    """Send a signal to a `kedro run` that has trained for `after` seconds; return the exit code and stderr."""
    project.behave(behavior)
    process = project.start("run")
    wait_until_it_trains(project, process)
    time.sleep(after)  # curves are uploaded every 5 seconds
    process.send_signal(number)
    try:
        _, stderr = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, stderr


def wait_until_it_trains(project: ProbeProject, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not (project.path / "waiting").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start_in_terminal(project: ProbeProject, *, is_foreground: bool) -> tuple[subprocess.Popen[bytes], int]:
    """Start `kedro run` in a pseudo-terminal; return the process and the controlling side of the terminal.

    A foreground process is the leader of the terminal's session, so the kernel sends it SIGHUP when the terminal
    closes.
    """
    main, side = pty.openpty()
    # The first terminal that a session leader opens becomes the session's controlling terminal.
    program = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDWR)); os.execv(sys.argv[2], sys.argv[2:])"
    leader = [sys.executable, "-c", program, os.ttyname(side)] if is_foreground else []
    process = subprocess.Popen(
        [*leader, *project.command("run")],
        cwd=project.path,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "TERM": "xterm-256color"},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    return process, main


def test_a_successful_run_is_one_finished_mlflow_run(probe_project):
    """One MLflow run contains the name, tags, parameters, curves, metrics, artifacts and datasets of a Kedro run."""
    done = probe_project.run("run", "--params", "training.epochs=3")
    assert done.returncode == 0, done.stderr
    client = client_of(probe_project.path)
    run = the_run(probe_project)
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("ResNet50 local epochs=3 2")
    tags = run.data.tags
    assert tags["recipe"] == "ResNet50/local"
    assert tags["kedro.pipelines"] == "__default__"
    assert tags["devices"] == "cpu:0,1"
    assert (tags["engine"], tags["environment"]) == ("native", "local")
    assert tags["data_digest"] == "sha256:" + 64 * "d"
    assert {"git_commit", "git_dirty", "project_version", "session"} <= set(tags)
    assert run.data.params["training.epochs"] == "3"
    assert run.data.params["training.lr.name"] == "Cosine"
    assert {name.split(".")[0] for name in run.data.params} == {"dataset", "training"}
    assert points(client, run.info.run_id, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.metrics["evaluation/top1"] == 0.75
    assert 0 < run.data.metrics["system/system_memory_usage_percentage"] < 100
    files = {
        file.path
        for folder in ("data_validation", "evaluation")
        for file in client.list_artifacts(run.info.run_id, folder)
    }
    assert files == {
        "data_validation/validation_report.json",
        "evaluation/metrics.json",
        "evaluation/evaluation_report.html",
    }
    # Without corruptions, the table has no rows, but DVC needs the file.
    assert (probe_project.path / "data/sample/08_reporting/robustness.parquet").is_file()
    contexts = {(i.dataset.name, i.tags[0].value) for i in run.inputs.dataset_inputs}
    assert contexts == {("digits/train", "training"), ("digits/val", "validation")}
    assert not (probe_project.path / ".mlflow_outbox").exists()


def test_a_commit_during_the_run_is_not_the_source_of_its_results(probe_project):
    """The index page and MLflow name the commit at the start of the run, not a commit made during training."""
    git(probe_project, "init", "--quiet")
    first = commit(probe_project)
    probe_project.behave("wait a moment")
    process = probe_project.start("run")
    wait_until_it_trains(probe_project, process)
    second = commit(probe_project)
    assert process.wait(60) == 0
    page = (probe_project.path / "data/sample/08_reporting/index.html").read_text()
    assert the_run(probe_project).data.tags["git_commit"] == first
    assert first in page
    assert second not in page


def git(project: ProbeProject, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=project.path, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(project: ProbeProject) -> str:
    git(project, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "change")
    return git(project, "rev-parse", "HEAD")


def test_the_summary_shows_result_and_places(probe_project):
    """The summary shows the result, the training folder, the report, the MLflow command and the log."""
    done = probe_project.run("run")
    lines = [line.strip().split("  ", maxsplit=1) for line in done.stdout.splitlines() if line.strip()]
    assert [[title, text.strip()] for title, text in lines] == [
        ["result", "top-1 75.00%, top-5 100.00% on 3 images"],
        ["training", "data/sample/06_models/training"],
        ["report", "data/sample/08_reporting/evaluation_report.html"],
        ["MLflow run", "`make ui`"],
        ["log", str(next((probe_project.path / "data/sample/09_logs").iterdir()).relative_to(probe_project.path))],
        ["index", "data/sample/08_reporting/index.html"],
    ]


def test_a_partial_run_is_linked_to_the_validated_data(probe_project):
    """A run of later nodes logs only the parameters of these nodes, and the data digest of the earlier validation."""
    assert probe_project.run("run", "--to-nodes", "validate").returncode == 0
    done = probe_project.run("run", "--pipelines", "training", "--from-nodes", "train_network")
    assert done.returncode == 0, done.stderr
    _, run = find_runs(client_of(probe_project.path), EXPERIMENT)
    assert run.info.run_name.startswith("ResNet50 local training 2")
    assert run.data.tags["kedro.nodes"] == "train_network,evaluate"
    assert run.data.tags["data_digest"] == "sha256:" + 64 * "d"
    assert {name.split(".")[0] for name in run.data.params} == {"training"}


def test_the_index_shows_only_figures_of_its_own_run(probe_project):
    """The index of a run that only trains has no accuracy, even if an earlier run was evaluated."""
    index = probe_project.path / "data" / "sample" / "08_reporting" / "index.html"
    assert probe_project.run("run").returncode == 0
    assert "75.00%" in index.read_text()
    done = probe_project.run("run", "--nodes", "train_network")
    assert done.returncode == 0, done.stderr
    assert "75.00%" not in index.read_text()
    assert "from an earlier run" in index.read_text()


def test_a_failed_run_has_its_error_and_curves(probe_project):
    """An error in a node ends the MLflow run as FAILED, with the curves so far and the error in a tag."""
    probe_project.behave("fail")
    done = probe_project.run("run")
    assert done.returncode == 1
    assert done.stderr.count("rank 1 was killed by SIGKILL; see log/workerlog.1") == 1
    assert "Traceback" not in done.stderr
    run = the_run(probe_project)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "RankFailedError: rank 1 was killed by SIGKILL; see log/workerlog.1"
    assert len(points(client_of(probe_project.path), run.info.run_id, "train/loss")) == 3


def test_an_unforeseen_error_keeps_its_traceback(probe_project):
    """An unexpected error is shown with its traceback, and the MLflow run is FAILED."""
    probe_project.behave("bug")
    done = probe_project.run("run")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr
    assert the_run(probe_project).info.status == "FAILED"


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_as_killed(probe_project, number, exit_code):
    """After SIGHUP, SIGINT or SIGTERM, the MLflow run is KILLED and keeps its curves; the exit code is 128 + signal."""
    code, stderr = interrupt(probe_project, "wait", number)
    assert code == exit_code
    assert stderr.splitlines()[-1].startswith("error: ")
    assert number.name in stderr.splitlines()[-1]
    run = the_run(probe_project)
    assert run.info.status == "KILLED"
    assert len(points(client_of(probe_project.path), run.info.run_id, "train/loss")) == 3
    assert not (probe_project.path / "evaluated").exists()


@pytest.mark.parametrize("hangs_up", [False, True])
def test_a_closed_terminal_ends_the_run_as_killed(probe_project, hangs_up):
    """If the terminal of a foreground run closes, SIGHUP ends the run as KILLED with exit code 129.

    A run outside the terminal's session, such as after the shell's `disown`, gets no signal and only loses its output.
    """
    probe_project.behave("wait" if hangs_up else "wait a moment")
    process, terminal = start_in_terminal(probe_project, is_foreground=hangs_up)
    wait_until_it_trains(probe_project, process)
    os.close(terminal)
    assert process.wait(timeout=60) == (129 if hangs_up else 0)
    assert the_run(probe_project).info.status == ("KILLED" if hangs_up else "FINISHED")
    assert (probe_project.path / "evaluated").exists() != hangs_up
    (log,) = (probe_project.path / "data/sample/09_logs").iterdir()
    if hangs_up:
        assert "SIGHUP" in log.read_text()


def test_nohup_keeps_a_run_alive(probe_project):
    """A run started with SIGHUP ignored finishes despite the signal."""
    probe_project.behave("wait a moment")
    process = subprocess.Popen(
        ["nohup", *probe_project.command("run")],
        cwd=probe_project.path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until_it_trains(probe_project, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0
    assert the_run(probe_project).info.status == "FINISHED"


def test_a_signal_that_a_library_swallows_still_ends_the_run(probe_project):
    """SIGTERM ends the run even if an `except Exception` around the interrupted code catches the error."""
    code, _ = interrupt(probe_project, "swallow", signal.SIGTERM)
    assert code == 143
    assert the_run(probe_project).info.status == "KILLED"
    assert not (probe_project.path / "evaluated").exists()


def test_the_next_run_marks_a_sigkilled_run_as_killed(probe_project):
    """SIGKILL leaves the MLflow run RUNNING; the next `kedro run` changes it to KILLED and starts its own."""
    code, _ = interrupt(probe_project, "wait", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert the_run(probe_project).info.status == "RUNNING"
    probe_project.behave("finish")
    assert probe_project.run("run").returncode == 0
    assert [run.info.status for run in find_runs(client_of(probe_project.path), EXPERIMENT)] == ["KILLED", "FINISHED"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_resumed_training_run_continues_its_mlflow_run(probe_project, number):
    """The run ends as FINISHED. Each step is on its curve once, and a tag contains the changed parameter."""
    interrupt(probe_project, "wait", number, after=7)
    probe_project.behave("finish")
    done = probe_project.run("run", "--params", "training.resume=true")
    assert done.returncode == 0, done.stderr
    run, client = the_run(probe_project), client_of(probe_project.path)
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags
    assert json.loads(run.data.tags["resumed.changed_params"]) == {"training.resume": ["False", "True"]}
    assert points(client, run.info.run_id, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.metrics["evaluation/top1"] == 0.75


def test_an_unreachable_server_does_not_stop_a_run(probe_project):
    """The run finishes, warns about the server, and keeps its results in the outbox for the next run."""
    (probe_project.path / "conf" / "local" / "parameters_tracking.yml").write_text(
        "tracking: {uri: 'http://127.0.0.1:9', experiment: x, artifact_root: mlartifacts}\n"
    )
    done = probe_project.run("run")
    assert done.returncode == 0, done.stderr
    assert "http://127.0.0.1:9" in done.stderr
    assert len(list((probe_project.path / ".mlflow_outbox").glob("*/outbox.json"))) == 1


def test_no_secret_is_written(probe_project, monkeypatch):
    """No file contains a password from the tracking URI or the values of environment variables."""
    secrets = {"MLFLOW_TRACKING_PASSWORD": "canary-client", "AWS_SECRET_ACCESS_KEY": "canary-s3", "OTHER": "canary-env"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    uri = "http://somebody:canary-address@127.0.0.1:9"
    assert probe_project.run("run").returncode == 0
    away = probe_project.run("run", "--params", f"tracking.uri={uri}")
    assert away.returncode == 0, away.stderr
    assert list((probe_project.path / ".mlflow_outbox").glob("*/outbox.json"))
    assert "canary" not in away.stderr + away.stdout
    written = [path for path in probe_project.path.rglob("*") if path.is_file()]
    assert (probe_project.path / "mlflow.db") in written
    assert [path for path in written if b"canary" in path.read_bytes()] == []


def test_an_invalid_tracking_uri_stops_the_run_before_the_first_node(probe_project):
    """If a tracking parameter is invalid, the error includes its name and value, and no node runs."""
    done = probe_project.run("run", "--params", "tracking.uri=mlruns")
    assert done.returncode == 1
    assert done.stderr.startswith("error: tracking.uri is 'mlruns'")
    assert not (probe_project.path / "data" / "sample" / "08_reporting").exists()
