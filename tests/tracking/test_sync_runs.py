"""`kedro sync-runs`: what a dead process left behind arrives, and the exit code says whether all of it did."""

from __future__ import annotations

import pytest

from mlflow_stores import MlflowServer, find_runs, points
from probe_project import ProbeProject

pytestmark = pytest.mark.slow  # processes that import Kedro and MLflow, and a server

EXPERIMENT = "probe"


@pytest.fixture
def project(probe_project: ProbeProject, server: MlflowServer) -> ProbeProject:
    """The probe project, tracking to the server."""
    (probe_project.path / "conf" / "local" / "parameters_tracking.yml").write_text(
        f"tracking: {{uri: '{server.uri}', experiment: {EXPERIMENT}, artifact_root: mlartifacts}}\n"
    )
    return probe_project


def test_a_run_without_a_server_arrives_whole_when_it_is_asked_for(project, server):
    """Never answered: exit 1 and it waits. Answered: the run with curve, figures and file, exit 0. Again: nothing."""
    assert project.run("run").returncode == 0
    (waiting,) = (project.path / ".mlflow_outbox").glob("*/outbox.json")
    without = project.run("sync-runs")
    assert without.returncode == 1
    assert without.stdout.startswith("waiting    ResNet50 local 2")
    assert "does not answer" in without.stdout.splitlines()[-1]
    assert waiting.exists()
    server.start()
    done = project.run("sync-runs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("delivered  ResNet50 local 2")
    client = server.client()
    (run,) = find_runs(client, EXPERIMENT)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in points(client, run.info.run_id, "train/loss")] == [1, 2, 3]
    assert len(points(client, run.info.run_id, "evaluation/top1")) == 1
    assert client.list_artifacts(run.info.run_id, "evaluation")
    assert not (project.path / ".mlflow_outbox").exists()
    again = project.run("sync-runs")
    assert (again.returncode, again.stdout) == (0, f"nothing was left to tell MLflow at {server.uri}\n")


def test_what_is_meant_for_another_store_is_named(project, server):
    """A run that waits for another server stays where it is, and the exit code says so."""
    assert project.run("run").returncode == 0
    done = project.run("sync-runs", "--params", "tracking.uri=sqlite:///mlflow.db")
    assert done.returncode == 1
    assert f"it waits for MLflow at {server.uri}" in done.stdout
