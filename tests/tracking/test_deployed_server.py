"""Runs and models on the server of `compose.yaml`, with a real PostgreSQL and an S3 store."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request

import pytest
from test_outbox import loss_steps, wait_until, write_steps

from deployed_mlflow import Deployment, deployed_mlflow, find_obstacle
from mlflow_stores import find_runs, points
from resnet50_pipeline.tracking.address import OUTBOX
from resnet50_pipeline.tracking.delivery.curve_uploads import uploading_curves
from resnet50_pipeline.tracking.delivery.operations import LogDataset, UploadCurves
from resnet50_pipeline.tracking.registry.promotion import list_champions, promote_version, roll_back
from resnet50_pipeline.tracking.registry.versions import ModelFiles, register_model
from resnet50_pipeline.tracking.runs import RunDescription, open_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_obstacle() is not None, reason=f"{find_obstacle()}"),
]

DIGEST = "sha256:" + 64 * "d"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """PostgreSQL, the S3 store and MLflow, started once for all tests in this module."""
    with deployed_mlflow(tmp_path_factory.mktemp("deployment")) as deployment:
        yield deployment


@pytest.fixture(autouse=True)
def credentials(deployment: Deployment, monkeypatch):
    """Set a user's environment variables, and let failing requests fail fast."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", deployment.secrets.admin)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def project(tmp_path):
    """A project folder with a training folder, a report and a placeholder for an exported model."""
    for name in ("training", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "inference.yml").write_text("arch: ResNet50\n")
    (tmp_path / "report.html").write_text("<html>")
    return tmp_path


def describe(session: str) -> RunDescription:
    return RunDescription(session, f"ResNet50 {session}", {"recipe": "probe"}, {"training": {"epochs": 3}})


def status_of(url: str, **headers: str) -> int:
    """Return the HTTP status of a GET request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_requests_need_a_password(deployment):
    """Requests with no or wrong credentials are rejected; the health check needs none."""
    server = deployment.mlflow
    url = f"{server.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    right, wrong = (base64.b64encode(f"admin:{word}".encode()).decode() for word in (deployment.secrets.admin, "guess"))
    assert status_of(url) == 401
    assert status_of(url, Authorization=f"Basic {wrong}") == 401
    assert status_of(url, Authorization=f"Basic {right}") == 200
    assert status_of(f"{server.uri}/health") == 200


def test_other_host_headers_are_rejected(deployment):
    """A foreign page that resolves its own name to this server gets status 403."""
    right = base64.b64encode(f"admin:{deployment.secrets.admin}".encode()).decode()
    url = f"{deployment.mlflow.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status_of(url, Authorization=f"Basic {right}", Host="evil.example") == 403


def test_runs_curves_files_models_and_champions_go_through_it(deployment, project):
    """PostgreSQL has every point once, the S3 store has the files, and champions can be promoted and rolled back."""
    write_steps(project / "training", 1, 2500)
    run = open_run(describe("whole"), deployment.mlflow.parameters, project)
    run.log_datasets(
        *(
            LogDataset(name=f"digits/{split}", digest=DIGEST, context=context, source="{}", profile="{}")
            for split, context in (("train", "training"), ("val", "validation"))
        )
    )
    run.outbox.deliver(UploadCurves(session=run.session, training_dir=project / "training"))
    run.log_artifact(project / "report.html", "evaluation")
    run.log_metrics({"evaluation/top1": 0.75}, on_val=True)
    versions = [
        register_model(run, ModelFiles(project / "model"), name="deployed", tags={"top1": "0.7"}, metrics={"top1": 0.7})
        for _ in range(2)
    ]
    run.end("FINISHED")
    client, run_id = run.connect()
    stored = client.get_run(run_id)
    assert (stored.info.status, stored.info.run_name) == ("FINISHED", "ResNet50 whole")
    rows = deployment.postgres.query("SELECT key, count(*) FROM metrics WHERE run_uuid = %s GROUP BY key", run_id)
    counts = dict(rows)
    assert counts["train/loss"] == counts["train/learning_rate"] == 2500
    assert counts["evaluation/top1"] == 1
    logged = client.get_logged_model(stored.outputs.model_outputs[0].model_id)
    (metric,) = logged.metrics
    assert (metric.key, metric.value, metric.dataset_name, metric.dataset_digest) == (
        "top1",
        0.7,
        "digits/val",
        36 * "d",
    )
    assert stored.info.artifact_uri.startswith("mlflow-artifacts:/")
    keys = deployment.mlflow.objects()
    assert any(key.endswith(f"{run_id}/artifacts/evaluation/report.html") for key in keys)
    assert any(f"{logged.model_id}/artifacts/MLmodel" in key for key in keys)
    assert [version.version for version in versions] == [1, 2]
    for number in (1, 2):
        promote_version(client, "deployed", number, despite_gate=True, why="it is better")
    roll_back(client, "deployed", "it is not")
    assert client.get_model_version_by_alias("deployed", "champion").version == "1"
    assert [entry.version for entry in list_champions(client, "deployed")] == [1, 2, 1]


def test_points_that_are_sent_twice_are_stored_once(deployment, project):
    """If the cursor is lost, all points are sent again, but PostgreSQL stores each of them only once."""
    write_steps(project / "training", 1, 1200)
    run = open_run(describe("twice"), deployment.mlflow.parameters, project)
    run.outbox.deliver(UploadCurves(session=run.session, training_dir=project / "training"))
    (project / "training" / ".mlflow_cursor.json").unlink()
    run.outbox.deliver(UploadCurves(session=run.session, training_dir=project / "training"))
    run.end("FINISHED")
    assert loss_steps(run) == list(range(1, 1201))


def test_a_killed_server_loses_nothing(deployment, project):
    """The server is killed during training and restarted before the end; PostgreSQL has each point once."""
    run = open_run(describe("outage"), deployment.mlflow.parameters, project)
    with uploading_curves(run.outbox, project / "training", resumes=False, poll_seconds=0.1):
        write_steps(project / "training", 1, 60)
        wait_until(lambda: len(loss_steps(run)) == 60)
        deployment.mlflow.kill()
        try:
            write_steps(project / "training", 61, 120)
            run.log_artifact(project / "report.html", "evaluation")
            assert (project / OUTBOX).exists()
        finally:
            deployment.mlflow.start()
    run.end("FINISHED")
    client, run_id = run.connect()
    assert [step for step, _ in points(client, run_id, "train/loss")] == list(range(1, 121))
    assert [file.path for file in client.list_artifacts(run_id, "evaluation")] == ["evaluation/report.html"]
    assert not (project / OUTBOX).exists()
    (stored,) = (one for one in find_runs(client) if one.info.run_id == run_id)
    assert stored.info.status == "FINISHED"


def test_database_and_logs_contain_no_secret(deployment):
    """Neither the PostgreSQL dump nor the servers' logs contain any of the deployment's passwords."""
    dump = deployment.postgres.dump()
    assert "ResNet50 whole" in dump
    logs = "".join(path.read_text(errors="replace") for path in deployment.mlflow.folder.glob("*.log"))
    assert "canary" not in dump + logs
