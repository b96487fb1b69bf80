"""The server of `compose.yaml`, on a real PostgreSQL and an S3 store, with all that a run tells it."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request

import pytest
from test_outbox import loss_steps, wait_until, write_steps

from deployed_mlflow import Deployment, deployed_mlflow, find_obstacle
from mlflow_stores import find_runs, points
from resnet50_pipeline.tracking.operations import LogDataset
from resnet50_pipeline.tracking.outbox import FOLDER
from resnet50_pipeline.tracking.promotion import list_champions, promote_version, roll_back
from resnet50_pipeline.tracking.registry import ModelFiles, register_model
from resnet50_pipeline.tracking.runs import RunDescription, open_run
from resnet50_pipeline.tracking.uploader import uploading_curves

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_obstacle() is not None, reason=f"{find_obstacle()}"),
]

DIGEST = "sha256:" + 64 * "d"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """PostgreSQL, the S3 store and MLflow, once for all tests here."""
    with deployed_mlflow(tmp_path_factory.mktemp("deployment")) as deployment:
        yield deployment


@pytest.fixture(autouse=True)
def credentials(deployment: Deployment, monkeypatch):
    """What a user sets to be let in; a request that fails does so at once."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", deployment.secrets.admin)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def project(tmp_path):
    """A project folder with a training folder, a report and what goes for an exported model."""
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
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_a_user_with_a_password_is_let_in(deployment):
    """Without credentials, or with wrong ones, a request is refused; the health check needs none."""
    server = deployment.mlflow
    url = f"{server.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    right, wrong = (base64.b64encode(f"admin:{word}".encode()).decode() for word in (deployment.secrets.admin, "guess"))
    assert status_of(url) == 401
    assert status_of(url, Authorization=f"Basic {wrong}") == 401
    assert status_of(url, Authorization=f"Basic {right}") == 200
    assert status_of(f"{server.uri}/health") == 200


def test_a_host_header_of_another_name_is_refused(deployment):
    """A page of another site that points its own name at this server gets nothing from it."""
    right = base64.b64encode(f"admin:{deployment.secrets.admin}".encode()).decode()
    url = f"{deployment.mlflow.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status_of(url, Authorization=f"Basic {right}", Host="evil.example") == 403


def test_runs_curves_files_models_and_champions_go_through_it(deployment, project):
    """All that a run tells is in PostgreSQL, once, its files are objects of the store, and a champion can be moved."""
    write_steps(project / "training", 1, 2500)
    run = open_run(describe("whole"), deployment.mlflow.parameters, project)
    run.name_data(
        *(
            LogDataset(name=f"digits/{split}", digest=DIGEST, context=context, source="{}", profile="{}")
            for split, context in (("train", "training"), ("val", "validation"))
        )
    )
    run.upload_curves(project / "training")
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


def test_what_is_told_twice_is_there_once(deployment, project):
    """A cursor that was lost after MLflow took the points has them sent again, and PostgreSQL keeps them once."""
    write_steps(project / "training", 1, 1200)
    run = open_run(describe("twice"), deployment.mlflow.parameters, project)
    run.upload_curves(project / "training")
    (project / "training" / ".mlflow_cursor.json").unlink()
    run.upload_curves(project / "training")
    run.end("FINISHED")
    assert loss_steps(run) == list(range(1, 1201))


def test_a_server_that_is_killed_and_started_again_loses_nothing(deployment, project):
    """Killed in the middle of a training, back before its end: each point is in PostgreSQL once."""
    run = open_run(describe("outage"), deployment.mlflow.parameters, project)
    with uploading_curves(run, project / "training", continues=False, poll_seconds=0.1):
        write_steps(project / "training", 1, 60)
        wait_until(lambda: len(loss_steps(run)) == 60)
        deployment.mlflow.kill()
        try:
            write_steps(project / "training", 61, 120)
            run.log_artifact(project / "report.html", "evaluation")
            assert (project / FOLDER).exists()
        finally:
            deployment.mlflow.start()
    run.end("FINISHED")
    client, run_id = run.connect()
    assert [step for step, _ in points(client, run_id, "train/loss")] == list(range(1, 121))
    assert [file.path for file in client.list_artifacts(run_id, "evaluation")] == ["evaluation/report.html"]
    assert not (project / FOLDER).exists()
    (stored,) = (one for one in find_runs(client) if one.info.run_id == run_id)
    assert stored.info.status == "FINISHED"


def test_no_secret_is_kept_by_server_or_store(deployment):
    """PostgreSQL's dump and the servers' logs hold none of the passwords that all of this was done with."""
    dump = deployment.postgres.dump()
    assert "ResNet50 whole" in dump
    logs = "".join(path.read_text(errors="replace") for path in deployment.mlflow.folder.glob("*.log"))
    assert "canary" not in dump + logs
