"""Faults 31, 32, 45 and 46 as `kedro run` itself shows them, on the sample; and two machines by Kedro."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from chaos import wait_until_nothing_is_left
from resnet50_pipeline.events import read_events
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from stub_ranks import wait_for

pytestmark = pytest.mark.slow

CANARY = "canary-77c1e0"


@dataclass(frozen=True)
class Project:
    """A Kedro project whose lists are ready, and how to train in it."""

    path: Path

    @property
    def training_dir(self) -> Path:
        """Where it trains."""
        return self.path / "data" / "test" / "06_models" / "training"

    def start(self, *parameters: str) -> subprocess.Popen[str]:
        """Start `kedro run --pipelines training`."""
        return self.kedro("training", *parameters)

    def kedro(self, pipelines: str, *parameters: str) -> subprocess.Popen[str]:
        """Start `kedro run` of some pipelines."""
        given = ["--params", ",".join(parameters)] if parameters else []
        return self._start("run", "--env", "test", "--pipelines", pipelines, *given)

    def _start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("kedro")), *words],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": str(self.path / "src"),
                "PYTHONWARNINGS": "ignore",
                "MLFLOW_TRACKING_TOKEN": CANARY,
                "AWS_SECRET_ACCESS_KEY": CANARY,
                "NOBODY_NAMED_THIS": CANARY,
            },
        )

    def join(self, *parameters: str) -> subprocess.Popen[str]:
        """Start `kedro join`."""
        return self._start("join", "--env", "test", "--params", ",".join(parameters))

    def start_endless(self) -> subprocess.Popen[str]:
        """Start a training that does not end by itself, and return when it has saved."""
        process = self.start("training.epochs=500")
        wait_for(lambda: process.poll() is not None or checkpoint_paths(self.training_dir), seconds=240)
        assert process.poll() is None, process.communicate()[1]
        return process

    def statuses(self) -> list[str]:
        """Return the status of every MLflow run, oldest first."""
        client = MlflowClient(f"sqlite:///{self.path / 'data' / 'test' / 'mlflow.db'}")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return [run.info.status for run in client.search_runs(experiments, order_by=["attributes.start_time ASC"])]


@pytest.fixture(scope="module")
def prepared(kedro_project: Path) -> Project:
    """The project after its first three stages."""
    project = Project(kedro_project)
    process = project.kedro("sample_data,data_validation,data_preparation")
    _, words = process.communicate(timeout=240)
    assert process.returncode == 0, words
    return project


@pytest.fixture
def project(prepared: Project) -> Iterator[Project]:
    """The prepared project, without a training, and nothing running in it afterwards."""
    for path in prepared.training_dir.parent.glob("training*"):
        shutil.rmtree(path)
    yield prepared
    wait_until_nothing_is_left(prepared.path)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_kedro_is_asked_to_stop(project: Project, number: int, exit_code: int):
    """Fault 31: Ctrl-C, SIGTERM: a set of the step that was under way, 130 / 143, no process left, KILLED.

    The message has the command that goes on, and that command ends the training.
    """
    process = project.start_endless()
    process.send_signal(number)
    _, words = process.communicate(timeout=90)
    assert process.returncode == exit_code, words
    assert f"error: stopped by {signal.Signals(number).name}" in words
    assert "Traceback" not in words
    assert project.statuses()[-1] == "KILLED"
    newest = checkpoint_paths(project.training_dir)[-1]
    state = json.loads((newest / "state.json").read_text())
    events, _ = read_events(events_path(project.training_dir))
    assert state["step"] == max(event.step for event in events if event.event == "train_step")
    command = re.search(r"go on from there with\n\s*(kedro run .*)\n", words)
    assert command
    assert command[1] == ("kedro run --env test --pipelines training --params training.epochs=500,training.resume=true")


def test_kedro_is_killed(project: Project):
    """Fault 32: SIGKILL of Kedro: no rank, launcher or guard after 10 s; the next run puts MLflow right."""
    process = project.start_endless()
    process.kill()
    process.communicate()
    wait_until_nothing_is_left(project.path)
    assert project.statuses()[-1] == "RUNNING"
    following = project.start()
    _, words = following.communicate(timeout=240)
    assert following.returncode == 0, words
    assert project.statuses()[-2:] == ["KILLED", "FINISHED"]


def test_two_runs_of_kedro(project: Project):
    """Fault 46: the second run refuses, names the first one's PID, and does not disturb it."""
    first = project.start_endless()
    second = project.start()
    _, words = second.communicate(timeout=90)
    assert second.returncode == 1
    assert f"process {first.pid} is at work there" in words
    assert first.poll() is None
    first.terminate()
    first.communicate(timeout=90)


def test_secrets_of_the_environment(project: Project):
    """Fault 45: variables that nobody named are in no file that the run has written, logs and MLflow's included."""
    process = project.start()
    said, words = process.communicate(timeout=240)
    assert process.returncode == 0, words
    assert CANARY not in said + words
    files = [path for path in (project.path / "data").rglob("*") if path.is_file()]
    assert any(path.name.startswith("envlog") for path in files)
    assert any(path.name == "mlflow.db" for path in files)
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_kedro_joins(project: Project):
    """`kedro run` and `kedro join`, as on two machines: both end well, one MLflow run, and one machine writes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = len(project.statuses())
    several = ["training.launch.nnodes=2", f"training.launch.master=127.0.0.1:{port}", "training.launch.devices=[0]"]
    second = project.join(*several, "training.launch.rank=1")
    first = project.start(*several)
    words = [process.communicate(timeout=240)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], words
    assert project.statuses()[before:] == ["FINISHED"]
    assert {path.name for path in project.training_dir.glob("heartbeat.*")} == {"heartbeat.0", "heartbeat.1"}
    assert (project.training_dir.parent / "training.machines" / "machine-1" / "workerlog.0").exists()


def test_kedro_has_nobody_to_join(project: Project):
    """`kedro join` without several machines ends at once and says what it is for."""
    process = project.join("training.epochs=2")
    _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: `kedro join` is for machines 1, 2, … of a training on several" in words
    assert "Traceback" not in words
