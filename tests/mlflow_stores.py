"""Real MLflow stores for tests: SQLite files, made in a moment from a template, and servers that can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.runs import RunDescription

_TEMPLATES = TemporaryDirectory()

EXPERIMENT = "probe"
SQLITE = TrackingParameters(uri="sqlite:///mlflow.db", experiment=EXPERIMENT, artifact_root="mlartifacts")
DESCRIPTION = RunDescription("session-1", "ResNet50 probe", {"recipe": "ResNet50/probe", "git_commit": "none"}, {})


@cache
def _template() -> Path:
    """A database with MLflow's tables, which take seconds to make."""
    path = Path(_TEMPLATES.name) / "template.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def make_database(path: Path) -> None:
    """Make an empty store of one file."""
    shutil.copy(_template(), path)


def sqlite_store(project: Path) -> TrackingParameters:
    """Return the parameters of a new empty store in `project`."""
    make_database(project / "mlflow.db")
    return SQLITE


def client_of(project: Path) -> MlflowClient:
    """Return a client of the store that `sqlite_store` made."""
    return MlflowClient(f"sqlite:///{project / 'mlflow.db'}")


def find_runs(client: MlflowClient, experiment: str = EXPERIMENT) -> list[Run]:
    """Return the runs of the experiment, the oldest first; none where nothing was ever sent."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))


def points(client: MlflowClient, run_id: str, key: str) -> list[tuple[int, float]]:
    """Return step and value of every point of a curve, duplicates included."""
    history: list[Metric] = client.get_metric_history(run_id, key)
    return [(metric.step, metric.value) for metric in history]


class MlflowServer:
    """`mlflow server` on a port of its own; can be killed and started again over the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_database(folder / "server.db")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The tracking URI."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def parameters(self) -> TrackingParameters:
        """`params:tracking` of the server."""
        return TrackingParameters(uri=self.uri, experiment=EXPERIMENT, artifact_root="mlartifacts")

    def client(self) -> MlflowClient:
        """Return a client of it."""
        return MlflowClient(self.uri)

    def command(self) -> list[str]:
        """Return its command line."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        return [*command, "--artifacts-destination", str(self.folder / "artifacts")]

    def environment(self) -> dict[str, str]:
        """Return its environment: without its job runners, which nothing here asks anything."""
        return {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, env=self.environment(), start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)

    def freeze(self) -> None:
        """Let it hang: it holds its port, takes connections, and answers none."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
