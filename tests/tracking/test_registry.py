"""The exported model in MLflow's registry, and out of it again in a process that knows nothing of this project."""

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
from resnet50_pipeline.tracking.operations import LogDataset
from resnet50_pipeline.tracking.registry import ModelFiles, list_requirements, register_model
from resnet50_pipeline.tracking.runs import open_run

pytestmark = pytest.mark.slow

TAGS = {"git_commit": "c0ffee", "data_digest": "sha256:da7a", "recipe": "ResNet18/probe", "top1": "0.75"}
METRICS = {"top1": 0.75}

# Everything in its working directory: no project, no package of ours on the path but the one inside the model.
LOAD = """
import base64, json, sys
import mlflow
import pandas as pd

uri, model, images = sys.argv[1:]
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model(model)
images = [base64.b64decode(text) for text in json.load(open(images))]
many = model.predict(pd.DataFrame({"image": images + [b"rubbish"]}))
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
    """Return what a fresh process predicts with the registered model."""
    images = tmp_path / "images.json"
    images.write_text(json.dumps([base64.b64encode(image).decode() for image in exported_model.images]))
    command = [sys.executable, "-W", "ignore", "-c", LOAD, uri, model_uri, str(images)]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


def assert_answers_are_the_networks(answers, exported_model, model_home: str) -> None:
    *rows, rubbish = answers["many"]
    for row, expected in zip(rows, exported_model.probabilities, strict=True):
        best = np.argsort(-expected)[:5]
        assert row["top_ids"] == best.tolist()
        assert np.allclose(row["top_probabilities"], expected[best], atol=1e-5)
        assert row["error"] == ""
    assert "not an image" in rubbish["error"]
    assert answers["one"][0]["top_ids"] == rows[0]["top_ids"]
    assert len(answers["example"][0]["top_ids"]) == 5
    assert model_home in answers["package"], "the package inside the model was used"


def test_a_registered_model_predicts_in_a_fresh_process(exported_model, tmp_path):
    """What was registered is found by its alias, carries its tags and its code, and answers as the network does."""
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
    answers = load_and_predict(run.store.uri, "models:/probe/1", exported_model, tmp_path)
    assert_answers_are_the_networks(answers, exported_model, str(tmp_path / "mlartifacts"))


def test_a_model_is_linked_to_its_metrics_and_these_to_the_val_data(exported_model, tmp_path):
    """The logged model's metrics are the run's, with name and digest of the data that they were measured on."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    train, val = (
        LogDataset(name=f"digits/{split}", digest="sha256:" + 64 * "a", context=context, source="{}", profile="{}")
        for split, context in (("train", "training"), ("val", "validation"))
    )
    run.name_data(train, val)
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


def test_each_registration_is_a_version_and_moves_no_alias(exported_model, tmp_path):
    """A second registration makes version 2; which of them is the champion is the gate's to say."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    for number in (1, 2):
        version = register_model(run, ModelFiles(exported_model.folder), name="probe", tags=TAGS, metrics=METRICS)
        assert version.version == number
    run.end("FINISHED")
    assert client_of(tmp_path).get_registered_model("probe").aliases == {}


def test_a_version_keeps_card_report_and_metrics(exported_model, tmp_path):
    """The card is its description; what it was judged by lies in its run, once, and a tag leads to the report."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    files = []
    for name in ("report.html", "predictions.parquet"):
        (tmp_path / name).write_text("judged by this")
        files.append(tmp_path / name)
    made = ModelFiles(exported_model.folder, card="# A card\n" + "x" * 9000, evidence=tuple(files))
    for _ in range(2):
        version = register_model(run, made, name="probe", tags=TAGS, metrics=METRICS)
    run.end("FINISHED")
    client = client_of(tmp_path)
    stored = client.get_model_version("probe", str(version.version))
    assert stored.description.startswith("# A card")
    assert len(stored.description) == 5000, "MLflow's column holds no more; the whole card is among the files"
    assert stored.tags["report"] == f"runs:/{run.run_id}/evaluation/report.html"
    kept = {file.path for file in client.list_artifacts(run.run_id, "evaluation")}
    assert kept == {"evaluation/report.html", "evaluation/predictions.parquet"}
    (tracked,) = find_runs(client)
    for output in tracked.outputs.model_outputs:
        (metric,) = client.get_logged_model(output.model_id).metrics
        assert (metric.key, metric.value) == ("top1", 0.75)


def test_the_control_process_never_loads_the_model(exported_model, tmp_path):
    """Registering imports no Paddle, leaves no other run open, and makes no store of MLflow's own."""
    sqlite_store(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from mlflow_stores import DESCRIPTION, SQLITE\n"
        "from resnet50_pipeline.tracking.registry import ModelFiles, register_model\n"
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


def test_a_server_takes_the_model_too(exported_model, tmp_path):
    """Registered over HTTP, with artifacts that the server keeps, the model loads and predicts the same."""
    (tmp_path / "server").mkdir()
    with MlflowServer(tmp_path / "server") as server:
        server.start()
        run = open_run(DESCRIPTION, server.parameters, tmp_path)
        version = register_model(run, ModelFiles(exported_model.folder), name="probe", tags=TAGS, metrics=METRICS)
        run.end("FINISHED")
        answers = load_and_predict(server.uri, version.model_uri, exported_model, tmp_path)
    assert_answers_are_the_networks(answers, exported_model, "resnet50_pipeline")


def test_no_server_is_an_error_that_says_how_to_go_on(exported_model, tmp_path, monkeypatch):
    """Registration needs MLflow's answer; without one it fails, and names the command that repeats it alone."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "server").mkdir()
    run = open_run(DESCRIPTION, MlflowServer(tmp_path / "server").parameters, tmp_path)
    with pytest.raises(TrackingError, match=r"did not register 'probe'.*--pipelines model_registration"):
        register_model(run, ModelFiles(exported_model.folder), name="probe", tags=TAGS, metrics=METRICS)
    run.end("FAILED")


def test_requirements_are_pinned_to_what_is_installed():
    """The model names the packages that serving imports, each with one version, Paddle in the build that is here."""
    names = {requirement.split("==")[0] for requirement in list_requirements()}
    assert {"mlflow", "numpy", "pandas", "pydantic", "PyYAML", "opencv-python"} <= names
    assert names & {"paddlepaddle", "paddlepaddle-gpu"}
