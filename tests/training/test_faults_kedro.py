"""Tests faults 31, 32, 45 and 46 in `kedro run` on the sample, and a run on two machines."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from chaos import wait_until_no_process_is_left
from ports import free_port
from resnet50_pipeline.events import read_events
from resnet50_pipeline.training_dir import checkpoint_paths, events_path
from stub_ranks import wait_for

pytestmark = pytest.mark.slow

KEDRO = str(Path(sys.executable).with_name("kedro"))
CANARY = "canary-77c1e0"


@dataclass(frozen=True)
class Project:
    """A Kedro project with prepared lists, and commands to train in it."""

    path: Path

    @property
    def training_dir(self) -> Path:
        """The training output folder."""
        return self.path / "data" / "test" / "06_models" / "training"

    def start(self, *parameters: str) -> subprocess.Popen[str]:
        """Start `kedro run --pipelines training`."""
        return self.kedro("training", *parameters)

    def kedro(self, pipelines: str, *parameters: str) -> subprocess.Popen[str]:
        """Start `kedro run` for some pipelines."""
        given = ["--params", ",".join(parameters)] if parameters else []
        return self._start("run", "--env", "test", "--pipelines", pipelines, *given)

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [KEDRO, *arguments],
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
        """Start an endless training run, and return after it has saved a set."""
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
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    return project


@pytest.fixture
def project(prepared: Project) -> Iterator[Project]:
    """The prepared project without a training run. After the test, no process runs in it."""
    for path in prepared.training_dir.parent.glob("training*"):
        shutil.rmtree(path)
    yield prepared
    wait_until_no_process_is_left(prepared.path)


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGHUP, 129), (signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.exhaustive)],
)
def test_kedro_saves_and_exits_after_stop_signal(project: Project, number: int, exit_code: int):
    """Faults 31 and 50: after SIGHUP, SIGINT or SIGTERM, the last step is saved, and the MLflow run is KILLED.

    The exit code is 129, 130 or 143, no process is left, and the printed command finishes the training run.
    """
    process = project.start_endless()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == exit_code, stderr
    assert f"error: stopped by {signal.Signals(number).name}" in stderr
    assert "Traceback" not in stderr
    assert project.statuses()[-1] == "KILLED"
    newest = checkpoint_paths(project.training_dir)[-1]
    state = json.loads((newest / "state.json").read_text())
    events = read_events(events_path(project.training_dir))
    assert state["step"] == max(event.step for event in events if event.event == "train_step")
    command = re.search(r"\n\s*(\S*kedro run .*training\.resume=true.*)\n", stderr)
    assert command
    program, *options = command[1].split()
    assert program in ("kedro", KEDRO)
    given = "run --env test --pipelines training --params training.epochs=500 --params training.resume=true"
    assert options == given.split()


def test_killed_kedro_leaves_no_process(project: Project):
    """Fault 32: if Kedro is killed, no process is left after 10 s, and the next run corrects the status in MLflow."""
    process = project.start_endless()
    process.kill()
    process.communicate()
    wait_until_no_process_is_left(project.path)
    assert project.statuses()[-1] == "RUNNING"
    following = project.start()
    _, stderr = following.communicate(timeout=240)
    assert following.returncode == 0, stderr
    assert project.statuses()[-2:] == ["KILLED", "FINISHED"]


@pytest.mark.exhaustive
def test_second_kedro_run_is_rejected(project: Project):
    """Fault 46: a second run refuses to start, reports the PID of the first run, and does not disturb that run."""
    first = project.start_endless()
    second = project.start()
    _, stderr = second.communicate(timeout=90)
    assert second.returncode == 1
    assert f"process {first.pid}" in stderr
    assert first.poll() is None
    first.terminate()
    first.communicate(timeout=90)


def test_no_file_contains_secrets(project: Project):
    """Fault 45: no file of the run, including logs and MLflow's files, contains the value of a secret variable."""
    process = project.start()
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert CANARY not in stdout + stderr
    files = [path for path in (project.path / "data").rglob("*") if path.is_file()]
    assert any(path.name.startswith("envlog") for path in files)
    assert any(path.name == "mlflow.db" for path in files)
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_kedro_run_and_join_train_together(project: Project):
    """`kedro run` and `kedro join` train together in one MLflow run, and only one machine writes results."""
    port = free_port()
    before = len(project.statuses())
    several = ["training.launch.nnodes=2", f"training.launch.master=127.0.0.1:{port}", "training.launch.devices=[0]"]
    second = project.join(*several, "training.launch.rank=1")
    first = project.start(*several)
    stderr = [process.communicate(timeout=240)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], stderr
    assert project.statuses()[before:] == ["FINISHED"]
    assert {path.name for path in project.training_dir.glob("heartbeat.*")} == {"heartbeat.0", "heartbeat.1"}
    assert (project.training_dir.parent / "training.machines" / "machine-1" / "workerlog.0").exists()


def test_kedro_join_on_one_machine_is_rejected(project: Project):
    """`kedro join` is rejected unless there are several machines."""
    process = project.join("training.epochs=2")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: `kedro join`" in stderr
    assert "Traceback" not in stderr
