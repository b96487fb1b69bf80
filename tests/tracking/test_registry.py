"""The exported model is registered, and works in a process without this project."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlflow_stores import DESCRIPTION, MlflowServer, client_of, find_runs, sqlite_store
from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.tracking.delivery.operations import LogDataset
from resnet50_pipeline.tracking.registry.versions import ModelFiles, list_requirements, register_model
from resnet50_pipeline.tracking.runs import open_run

pytestmark = pytest.mark.slow

TAGS = {"git_commit": "c0ffee", "data_digest": "sha256:da7a", "recipe": "ResNet18/probe", "top1": "0.75"}
METRICS = {"top1": 0.75}

# Runs in an empty folder. The only copy of this package on the path is the one inside the model.
LOAD = """
import base64, json, sys
import mlflow
import pandas as pd

uri, model, images = sys.argv[1:]
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model(model)
images = [base64.b64decode(text) for text in json.load(open(images))]
many = model.predict(pd.DataFrame({"image": images + [b"no image"]}))
one = model.predict(pd.DataFrame({"image": images[:1]}))
example = model.predict(model.input_example)
import resnet50_pipeline
print(json.dumps({
    "many": json.loads(many.to_json(orient="records")),
    "one": json.loads(one.to_json(orient="records")),
    "example": json.loads(example.to_json(orient="records")),
    "package": resnet50_pipeline.__file__,
}))
"""


def load_and_predict(uri: str, model_uri: str, exported_model, tmp_path):
    """Return the predictions of the registered model in a new process."""
    images = tmp_path / "images.json"
    images.write_text(json.dumps([base64.b64encode(image).decode() for image in exported_model.images]))
    command = [sys.executable, "-W", "ignore", "-c", LOAD, uri, model_uri, str(images)]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


def assert_predictions_are_the_networks(predictions, exported_model, model_home: str) -> None:
    *rows, invalid = predictions["many"]
    for row, expected in zip(rows, exported_model.probabilities, strict=True):
        best = np.argsort(-expected)[:5]
        assert row["top_ids"] == best.tolist()
        assert np.allclose(row["top_probabilities"], expected[best], atol=1e-5)
        assert row["error"] == ""
    assert invalid["error"] != ""
    assert invalid["status"] != 200
    assert predictions["one"][0]["top_ids"] == rows[0]["top_ids"]
    assert len(predictions["example"][0]["top_ids"]) == 5
    assert model_home in predictions["package"], "the package is imported from the model"


def test_a_registered_model_predicts_in_a_new_process(exported_model, tmp_path):
    """The registered version has its tags and its code, and returns the network's probabilities."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    version = register_model(run, ModelFiles(exported_model.folder), name="probe", tags=TAGS, metrics=METRICS)
    run.end("FINISHED")
    assert (version.name, version.version, version.model_uri) == ("probe", 1, "models:/probe/1")
    client = client_of(tmp_path)
    stored = client.get_model_version("probe", "1")
    assert (stored.version, stored.tags, stored.run_id) == (1, TAGS, run.run_id)
    (tracked,) = find_runs(client)
    (output,) = tracked.outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert (logged.artifact_location, logged.status) == (stored.source, "READY")
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "probe", "version": 1}]
    predictions = load_and_predict(run.store.uri, "models:/probe/1", exported_model, tmp_path)
    assert_predictions_are_the_networks(predictions, exported_model, str(tmp_path / "mlartifacts"))


def test_the_metrics_of_a_model_are_linked_to_the_validation_data(exported_model, tmp_path):
    """The logged model has the run's metrics, with the name and digest of the data that they were measured on."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    train, val = (
        LogDataset(name=f"digits/{split}", digest="sha256:" + 64 * "a", context=context, source="{}", profile="{}")
        for split, context in (("train", "training"), ("val", "validation"))
    )
    run.log_datasets(train, val)
    register_model(run, ModelFiles(exported_model.folder), name="probe", tags=TAGS, metrics=METRICS | {"top5": 1.0})
    run.end("FINISHED")
    client = client_of(tmp_path)
    (tracked,) = find_runs(client)
    (output,) = tracked.outputs.model_outputs
    metrics = client.get_logged_model(output.model_id).metrics
    linked = {(one.key, one.value, one.dataset_name, one.dataset_digest) for one in metrics}
    assert linked == {("top1", 0.75, "digits/val", 36 * "a"), ("top5", 1.0, "digits/val", 36 * "a")}
    assert tracked.data.metrics["top1"] == 0.75
    found = client.search_logged_models([tracked.info.experiment_id], "metrics.top1 > 0.7")
    assert [model.model_id for model in found] == [output.model_id]


def test_a_refused_name_leaves_no_copy(tmp_path):
    """MLflow rejects the name before the model is stored, so repeated attempts do not fill the disk."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    (tmp_path / "inference").mkdir()
    with pytest.raises(TrackingError, match="team/digits"):
        register_model(run, ModelFiles(tmp_path / "inference"), name="team/digits", tags=TAGS, metrics=METRICS)
    run.end("FAILED")
    assert [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()] == []


def test_each_registration_is_a_version_and_moves_no_alias(exported_model, tmp_path):
    """A second registration creates version 2 and leaves the aliases to the gate."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    for number in (1, 2):
        version = register_model(run, ModelFiles(exported_model.folder), name="probe", tags=TAGS, metrics=METRICS)
        assert version.version == number
    run.end("FINISHED")
    assert client_of(tmp_path).get_registered_model("probe").aliases == {}


def test_a_version_keeps_card_report_and_metrics(exported_model, tmp_path):
    """The model card is the description, the run has each evidence file once, and a tag has the report's address."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    files = []
    for name in ("report.html", "predictions.parquet"):
        (tmp_path / name).write_text("evidence")
        files.append(tmp_path / name)
    made = ModelFiles(exported_model.folder, card="# A card\n" + "x" * 9000, evidence=tuple(files))
    for _ in range(2):
        version = register_model(run, made, name="probe", tags=TAGS, metrics=METRICS)
    run.end("FINISHED")
    client = client_of(tmp_path)
    stored = client.get_model_version("probe", str(version.version))
    assert stored.description.startswith("# A card")
    assert len(stored.description) == 5000, "the length of MLflow's column"
    assert stored.tags["report"] == f"runs:/{run.run_id}/evaluation/report.html"
    kept = {file.path for file in client.list_artifacts(run.run_id, "evaluation")}
    assert kept == {"evaluation/report.html", "evaluation/predictions.parquet"}
    (tracked,) = find_runs(client)
    for output in tracked.outputs.model_outputs:
        (metric,) = client.get_logged_model(output.model_id).metrics
        assert (metric.key, metric.value) == ("top1", 0.75)


def test_the_control_process_never_loads_the_model(exported_model, tmp_path):
    """Registration does not import Paddle, leaves no run open, and creates no second MLflow store."""
    sqlite_store(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from mlflow_stores import DESCRIPTION, SQLITE\n"
        "from resnet50_pipeline.tracking.registry.versions import ModelFiles, register_model\n"
        "from resnet50_pipeline.tracking.runs import open_run\n"
        "run = open_run(DESCRIPTION, SQLITE, Path(sys.argv[1]))\n"
        "register_model(run, ModelFiles(Path(sys.argv[2])), name='probe', tags={}, metrics={})\n"
        "run.end('FINISHED')\n"
        "import mlflow\n"
        "print([name for name in ('paddle', 'cv2', 'ppcls') if name in sys.modules], mlflow.active_run())"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", code]
    command += [str(tmp_path), str(exported_model.folder), str(Path(__file__).parents[1])]
    done = subprocess.run(command, cwd=elsewhere, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    assert done.stdout.strip().endswith("[] None")
    assert list(elsewhere.iterdir()) == []
    assert [run.info.status for run in find_runs(client_of(tmp_path))] == ["FINISHED"]


def test_a_model_is_registered_on_a_server(exported_model, tmp_path):
    """A model registered over HTTP, with artifacts on the server, can be loaded and makes the same predictions."""
    (tmp_path / "server").mkdir()
    with MlflowServer(tmp_path / "server") as server:
        server.start()
        run = open_run(DESCRIPTION, server.parameters, tmp_path)
        version = register_model(run, ModelFiles(exported_model.folder), name="probe", tags=TAGS, metrics=METRICS)
        run.end("FINISHED")
        predictions = load_and_predict(server.uri, version.model_uri, exported_model, tmp_path)
    assert_predictions_are_the_networks(predictions, exported_model, "resnet50_pipeline")


def test_registration_without_a_server_fails(exported_model, tmp_path, monkeypatch):
    """The error includes the model and the command that reruns the stage."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "server").mkdir()
    run = open_run(DESCRIPTION, MlflowServer(tmp_path / "server").parameters, tmp_path)
    with pytest.raises(TrackingError, match=r"(?s)'probe'.*--pipelines model_registration"):
        register_model(run, ModelFiles(exported_model.folder), name="probe", tags=TAGS, metrics=METRICS)
    run.end("FAILED")


def test_requirements_are_pinned_to_what_is_installed():
    """The requirements contain the packages that serving imports, and the installed build of Paddle."""
    names = {requirement.split("==")[0] for requirement in list_requirements()}
    assert {"mlflow", "numpy", "pandas", "pydantic", "PyYAML", "opencv-python-headless"} <= names
    assert names & {"paddlepaddle", "paddlepaddle-gpu"}
