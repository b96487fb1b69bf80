"""`kedro sync-runs` uploads the results of dead processes, and its exit code shows whether any are left."""

from __future__ import annotations

import pytest

from mlflow_stores import MlflowServer, find_runs, points
from probe_project import ProbeProject

pytestmark = pytest.mark.slow  # processes that import Kedro and MLflow, and a server

EXPERIMENT = "probe"


@pytest.fixture
def project(probe_project: ProbeProject, server: MlflowServer) -> ProbeProject:
    """The probe project with the server as its store."""
    (probe_project.path / "conf" / "local" / "parameters_tracking.yml").write_text(
        f"tracking: {{uri: '{server.uri}', experiment: {EXPERIMENT}, artifact_root: mlartifacts}}\n"
    )
    return probe_project


def test_a_run_made_offline_is_uploaded_by_the_command(project, server):
    """Without a server, the exit code is 1. With one, the run is uploaded and the code is 0, even on a second call."""
    assert project.run("run").returncode == 0
    (waiting,) = (project.path / ".mlflow_outbox").glob("*/outbox.json")
    without = project.run("sync-runs")
    assert without.returncode == 1
    assert without.stdout.split()[:2] == ["waiting", "ResNet50"]
    assert server.uri in without.stdout.splitlines()[-1]
    assert waiting.exists()
    server.start()
    done = project.run("sync-runs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["delivered", "ResNet50"]
    client = server.client()
    (run,) = find_runs(client, EXPERIMENT)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in points(client, run.info.run_id, "train/loss")] == [1, 2, 3]
    assert len(points(client, run.info.run_id, "evaluation/top1")) == 1
    assert client.list_artifacts(run.info.run_id, "evaluation")
    assert not (project.path / ".mlflow_outbox").exists()
    again = project.run("sync-runs")
    assert again.returncode == 0
    assert "ResNet50" not in again.stdout


def test_a_run_for_another_store_is_kept(project, server):
    """A run for another server stays in the outbox, and the exit code is 1."""
    assert project.run("run").returncode == 0
    done = project.run("sync-runs", "--params", "tracking.uri=sqlite:///mlflow.db")
    assert done.returncode == 1
    assert done.stdout.split()[:2] == ["elsewhere", "ResNet50"]
    assert server.uri in done.stdout
