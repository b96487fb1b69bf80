"""One MLflow run for one Kedro run, in real sessions of a small project that has this project's hooks."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from mlflow_stores import client_of, find_runs, points
from probe_project import ProbeProject

pytestmark = pytest.mark.slow  # processes that import Kedro and MLflow

EXPERIMENT = "resnet50-digits"


def the_run(project: ProbeProject):
    (run,) = find_runs(client_of(project.path), EXPERIMENT)
    return run


def interrupt(project: ProbeProject, behaviour: str, number: signal.Signals, after: float = 0.0) -> tuple[int, str]:
    """Send a signal to a `kedro run` that trains, `after` so many seconds; return exit code and stderr."""
    project.behave(behaviour)
    process = project.start("run")
    deadline = time.monotonic() + 60
    while not (project.path / "waiting").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(after)  # the curves are looked at every 5 seconds
    process.send_signal(number)
    try:
        _, stderr = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, stderr


def test_a_run_that_ends_well_is_one_finished_run_with_all_there_is(probe_project):
    """Name, tags, parameters, curves, figures, files and data of a Kedro run are in one MLflow run."""
    done = probe_project.run("run", "--params", "training.epochs=3")
    assert done.returncode == 0, done.stderr
    client = client_of(probe_project.path)
    run = the_run(probe_project)
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("ResNet50 local 2")
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
    contexts = {(i.dataset.name, i.tags[0].value) for i in run.inputs.dataset_inputs}
    assert contexts == {("digits/train", "training"), ("digits/val", "validation")}
    assert not (probe_project.path / ".mlflow_outbox").exists()


def test_the_end_of_a_run_says_where_things_are(probe_project):
    """A handful of lines: the result, the report, the folder of the training, how to open MLflow's page."""
    done = probe_project.run("run")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip()]
    assert lines == [
        ["result", "top-1 75.00%, top-5 100.00% on 3 images"],
        ["training", "data/sample/06_models/training"],
        ["report", "data/sample/08_reporting/evaluation_report.html"],
        ["MLflow", "`make ui` shows runs, curves and models"],
        ["log", str(next((probe_project.path / "data/sample/09_logs").iterdir()).relative_to(probe_project.path))],
    ]


def test_a_part_of_the_chain_is_a_run_that_knows_its_data(probe_project):
    """A run of later nodes has their parameters only, and the digest of the data that an earlier run validated."""
    assert probe_project.run("run", "--to-nodes", "validate").returncode == 0
    done = probe_project.run("run", "--pipelines", "training", "--from-nodes", "train_network")
    assert done.returncode == 0, done.stderr
    _, run = find_runs(client_of(probe_project.path), EXPERIMENT)
    assert run.info.run_name.startswith("ResNet50 local training 2")
    assert run.data.tags["kedro.nodes"] == "train_network,evaluate"
    assert run.data.tags["data_digest"] == "sha256:" + 64 * "d"
    assert {name.split(".")[0] for name in run.data.params} == {"training"}


def test_a_run_that_fails_is_failed_with_its_error_and_its_curves(probe_project):
    """An error of a node ends the MLflow run as FAILED, with what was uploaded and why in it; exit code 1."""
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
    """A bug is shown as one, and the MLflow run is FAILED."""
    probe_project.behave("bug")
    done = probe_project.run("run")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr
    assert the_run(probe_project).info.status == "FAILED"


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_as_killed(probe_project, number, exit_code):
    """Ctrl-C and SIGTERM end a run in order: KILLED in MLflow, the curves up to there, 128 + the signal's number."""
    code, stderr = interrupt(probe_project, "wait", number)
    assert code == exit_code
    assert stderr.splitlines()[-1] == f"error: stopped by {number.name}"
    run = the_run(probe_project)
    assert run.info.status == "KILLED"
    assert len(points(client_of(probe_project.path), run.info.run_id, "train/loss")) == 3
    assert not (probe_project.path / "evaluated").exists()


def test_a_signal_that_a_library_swallows_still_ends_the_run(probe_project):
    """An `except Exception` around the interrupted code does not turn SIGTERM into a run that goes on."""
    code, _ = interrupt(probe_project, "swallow", signal.SIGTERM)
    assert code == 143
    assert the_run(probe_project).info.status == "KILLED"
    assert not (probe_project.path / "evaluated").exists()


def test_the_run_after_a_sigkill_puts_its_end_right(probe_project):
    """SIGKILL can only leave RUNNING; the next `kedro run` makes that KILLED and is a run of its own."""
    code, _ = interrupt(probe_project, "wait", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert the_run(probe_project).info.status == "RUNNING"
    probe_project.behave("finish")
    assert probe_project.run("run").returncode == 0
    assert [run.info.status for run in find_runs(client_of(probe_project.path), EXPERIMENT)] == ["KILLED", "FINISHED"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_that_goes_on_is_the_same_run(probe_project, number):
    """Killed and resumed: one MLflow run, FINISHED, each step on its curve once, the changed parameter noted."""
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


def test_a_dead_server_does_not_stop_a_run(probe_project):
    """With a server that does not answer the chain runs to its end, warns, and keeps everything for the next run."""
    (probe_project.path / "conf" / "local" / "parameters_tracking.yml").write_text(
        "tracking: {uri: 'http://127.0.0.1:9', experiment: x, artifact_root: mlartifacts}\n"
    )
    done = probe_project.run("run")
    assert done.returncode == 0, done.stderr
    assert "MLflow at http://127.0.0.1:9 does not take what it is told" in done.stderr
    assert len(list((probe_project.path / ".mlflow_outbox").glob("*/outbox.json"))) == 1


def test_no_secret_is_kept(probe_project, monkeypatch):
    """A password in the address, those of MLflow's client and whatever else the environment holds are in no file."""
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


def test_a_store_that_cannot_be_is_refused_before_the_first_node(probe_project):
    """A tracking URI that MLflow does not take is an error of one line, and nothing has run."""
    done = probe_project.run("run", "--params", "tracking.uri=mlruns")
    assert done.returncode == 1
    assert done.stderr.startswith("error: tracking.uri is 'mlruns'")
    assert not (probe_project.path / "data" / "sample" / "08_reporting").exists()
