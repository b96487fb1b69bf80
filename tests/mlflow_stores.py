"""Real MLflow stores for tests: SQLite files, copied from a template, and servers that can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from ports import free_port
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.runs import RunDescription

_TEMPLATES = TemporaryDirectory()
# MLflow's own page asks for a user, although its server has none, uses outdated options of its table, and draws plots
# with WebGL, about which a browser without a GPU complains.
_ERRORS_OF_MLFLOW = ("/mlflow/users/current", "AG Grid:", "WebGL")

EXPERIMENT = "probe"
SQLITE = TrackingParameters(uri="sqlite:///mlflow.db", experiment=EXPERIMENT, artifact_root="mlartifacts")
DESCRIPTION = RunDescription("session-1", "ResNet50 probe", {"recipe": "ResNet50/probe", "git_commit": "none"}, {})


@cache
def _template() -> Path:
    """A database with MLflow's tables, which take seconds to create."""
    path = Path(_TEMPLATES.name) / "template.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def make_database(path: Path) -> None:
    """Create an empty SQLite store."""
    shutil.copy(_template(), path)


def sqlite_store(project: Path) -> TrackingParameters:
    """Create an empty SQLite store in `project`, and return its parameters."""
    make_database(project / "mlflow.db")
    return SQLITE


def client_of(project: Path) -> MlflowClient:
    """Return a client of the store that `sqlite_store` created."""
    return MlflowClient(f"sqlite:///{project / 'mlflow.db'}")


def find_runs(client: MlflowClient, experiment: str = EXPERIMENT) -> list[Run]:
    """Return the runs of the experiment, oldest first; none if the experiment does not exist."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))


def find_own_errors(errors: Sequence[str]) -> list[str]:
    """Return the errors of a page of MLflow's UI that MLflow does not cause itself."""
    return [error for error in errors if not any(known in error for known in _ERRORS_OF_MLFLOW)]


def points(client: MlflowClient, run_id: str, key: str) -> list[tuple[int, float]]:
    """Return the step and value of every point of a curve, including duplicates."""
    history: list[Metric] = client.get_metric_history(run_id, key)
    return [(metric.step, metric.value) for metric in history]


class MlflowServer:
    """An `mlflow server` that can be killed, and restarted with the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_database(folder / "server.db")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Tracking URI of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def parameters(self) -> TrackingParameters:
        """`params:tracking` with the server as the store."""
        return TrackingParameters(uri=self.uri, experiment=EXPERIMENT, artifact_root="mlartifacts")

    def client(self) -> MlflowClient:
        """Return a client of the server."""
        return MlflowClient(self.uri)

    def command(self) -> list[str]:
        """Return the command line of the server."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        return [*command, "--artifacts-destination", str(self.folder / "artifacts")]

    def environment(self) -> dict[str, str]:
        """Return the server's environment. Job runners are off, because no test needs them."""
        return {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def start(self) -> None:
        """Start the server and wait until it responds."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, env=self.environment(), start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self._is_ready():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server does not respond"
            time.sleep(0.1)

    def freeze(self) -> None:
        """Pause the server's processes, so that the server accepts connections but does not respond."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the server's processes."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server's processes with SIGKILL."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
