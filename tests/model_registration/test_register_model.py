"""The register_model node creates a version with the facts about the evaluated and exported model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from mlflow_stores import SQLITE, client_of, sqlite_store
from resnet50_pipeline.exceptions import EvaluationTableError, TrackingError
from resnet50_pipeline.files import digest_json
from resnet50_pipeline.parameters import GateParameters, ModelRegistrationParameters
from resnet50_pipeline.pipelines.model_registration import create_pipeline
from resnet50_pipeline.pipelines.model_registration.nodes import register_model
from resnet50_pipeline.tracking.runs import RunDescription, TrackedRun, open_run

PARAMETERS = ModelRegistrationParameters(model_name="probe", gate=GateParameters(min_accuracy=0.5))
METRICS = {"top1": 0.9375, "top5": 1.0, "balanced_accuracy": 0.9, "loss": 0.25, "images": 16.0}
SUMMARY = {"list_digest": "sha256:1157", "weights_digest": "sha256:3e16", "split": "val", "list": "val_list.txt"}
REPORT = {"data_digest": "sha256:da7a", "expectations": []}
EVALUATION = digest_json(METRICS, SUMMARY, REPORT["data_digest"])
CARD = f"# The card\n\n{EVALUATION}\n"
PREDICTIONS = pd.DataFrame({"path": ["a"], "label": [0]})


@pytest.fixture
def inputs(exported_model, tmp_path) -> dict[str, Any]:
    """The inputs of the node, including an exported model that passed its check."""
    folder = shutil.copytree(exported_model.folder, tmp_path / "inference_model")
    (folder / "export_check.json").write_text(json.dumps({"passed": True, "weights_digest": "sha256:3e16"}))
    (tmp_path / "report.html").write_text(f"<p>report {EVALUATION}</p>")
    (tmp_path / "model_card.md").write_text(CARD)
    return {
        "inference_model": folder,
        "metrics": METRICS,
        "evaluation_summary": SUMMARY,
        "predictions": PREDICTIONS,
        "comparison": {"rival": None, "reason": ""},
        "evaluation_report": tmp_path / "report.html",
        "model_card": tmp_path / "model_card.md",
        "validation_report": REPORT,
        "model_registration": PARAMETERS,
    }


@pytest.fixture
def run(tmp_path) -> Iterator[TrackedRun]:
    """An active run in a temporary store."""
    sqlite_store(tmp_path)
    tags = {"git_commit": "c0ffee", "recipe": "ResNet18/probe"}
    opened = open_run(RunDescription("session-1", "probe", tags, {}), SQLITE, tmp_path)
    yield opened
    opened.end("FINISHED")


@pytest.mark.slow
def test_the_version_has_the_facts_of_its_model(inputs, run, tmp_path):
    """The output and tags include the commit, data, list and weights digests, recipe, metrics and gate decision."""
    registered = register_model(**inputs)
    accuracies = {name: value for name, value in METRICS.items() if name != "images"}
    facts = {**accuracies, "data_digest": "sha256:da7a", "list_digest": "sha256:1157", "weights_digest": "sha256:3e16"}
    facts |= {"git_commit": "c0ffee", "recipe": "ResNet18/probe", "patches": "none"}
    gate = registered.pop("gate")
    assert registered == {
        "name": "probe",
        "version": 1,
        "alias": "champion",
        "run_id": run.run_id,
        "model_uri": "models:/probe/1",
        **facts,
    }
    assert gate["passed"]
    assert [check["rule"] for check in gate["checks"]] == [
        "min_accuracy",
        "max_accuracy_drop",
        "data_is_valid",
        "export_agrees",
    ]
    stored = client_of(tmp_path).get_model_version_by_alias("probe", "champion")
    assert {name: stored.tags[name] for name in facts} == {name: str(fact) for name, fact in facts.items()}
    assert stored.tags["gate"] == "passed"
    assert CARD.strip() in stored.description
    assert "**Gate: passed, champion** (probe version 1)" in stored.description
    assert f"/runs/{run.run_id}/artifacts/evaluation/report.html" in stored.description


@pytest.mark.slow
def test_a_version_that_fails_the_gate_has_no_alias(inputs, run, tmp_path):
    """A version that fails the gate is registered, but the alias is not moved."""
    finding = {"name": "images_decode", "is_blocking": True, "success": False}
    registered = register_model(**{**inputs, "validation_report": {**REPORT, "expectations": [finding]}})
    assert (registered["version"], registered["alias"], registered["gate"]["passed"]) == (1, "", False)
    assert client_of(tmp_path).get_registered_model("probe").aliases == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [({"weights_digest": "sha256:07e4"}, "sha256:07e4"), ({"split": None}, r"val_list\.txt")],
)
def test_metrics_from_another_evaluation_are_rejected(inputs, run, tmp_path, changes, message):
    """Metrics from different weights or a different list cause an error, and no version is registered."""
    with pytest.raises(EvaluationTableError, match=message):
        register_model(**{**inputs, "evaluation_summary": {**SUMMARY, **changes}})
    assert client_of(tmp_path).search_registered_models() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "pages"),
    [
        ({"metrics": {**METRICS, "top1": 0.9376}}, r"report\.html and .*model_card\.md"),
        ({"evaluation_summary": {**SUMMARY, "seconds": 7.5}}, r"report\.html and .*model_card\.md"),
        ({"validation_report": {**REPORT, "data_digest": "sha256:07e4"}}, "data_validation"),
    ],
)
def test_results_of_different_evaluations_are_rejected(inputs, run, tmp_path, changed, pages):
    """If the metrics, the summary or the data were replaced after the report was written, nothing is registered."""
    with pytest.raises(EvaluationTableError, match=pages):
        register_model(**{**inputs, **changed})
    assert client_of(tmp_path).search_registered_models() == []


@pytest.mark.slow
def test_registration_needs_a_run(inputs):
    """If there is no active MLflow run, the node raises an error."""
    with pytest.raises(TrackingError):
        register_model(**inputs)


def test_the_stage_has_the_documented_inputs_and_outputs():
    """The inputs are results of earlier stages, and the outputs are an inference model and a registered version."""
    pipeline = create_pipeline()
    assert {name for name in pipeline.inputs() if not name.startswith("params:")} == {
        "training_dir",
        "label_map",
        "comparison",
        "metrics",
        "evaluation_summary",
        "predictions",
        "evaluation_report",
        "model_card",
        "validation_report",
    }
    assert pipeline.all_outputs() == {"inference_model", "registered_model"}
