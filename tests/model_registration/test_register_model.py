"""The stage's last node: a checked, exported model becomes a version that says what it was made of."""

from __future__ import annotations

import pytest

from mlflow_stores import SQLITE, client_of, sqlite_store
from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import ModelRegistrationParameters
from resnet50_pipeline.pipelines.model_registration import create_pipeline
from resnet50_pipeline.pipelines.model_registration.nodes import register_model
from resnet50_pipeline.tracking.runs import RunDescription, open_run

PARAMETERS = ModelRegistrationParameters(model_name="probe", alias="candidate")
METRICS = {"top1": 0.9375, "top5": 1.0}
REPORT = {"data_digest": "sha256:da7a"}


@pytest.mark.slow
def test_the_version_carries_what_it_was_made_of(exported_model, tmp_path):
    """What the node returns, and the version's tags, name the commit, the data, the recipe and the result."""
    sqlite_store(tmp_path)
    tags = {"git_commit": "c0ffee", "recipe": "ResNet18/probe"}
    run = open_run(RunDescription("session-1", "probe", tags, {}), SQLITE, tmp_path)
    registered = register_model(exported_model.folder, METRICS, REPORT, PARAMETERS)
    run.end("FINISHED")
    facts = {"top1": 0.9375, "data_digest": "sha256:da7a", "git_commit": "c0ffee", "recipe": "ResNet18/probe"}
    assert registered == {
        "name": "probe",
        "version": 1,
        "alias": "candidate",
        "run_id": run.run_id,
        "model_uri": "models:/probe/1",
        **facts,
    }
    stored = client_of(tmp_path).get_model_version_by_alias("probe", "candidate")
    assert stored.tags == {name: str(fact) for name, fact in facts.items()}


def test_without_a_run_nothing_is_registered(tmp_path):
    """Outside a tracked run the node says what opens one."""
    with pytest.raises(TrackingError, match="no MLflow run is open"):
        register_model(tmp_path, METRICS, REPORT, PARAMETERS)


def test_the_stage_takes_and_gives_what_the_catalog_holds():
    """Its free inputs are results of earlier stages, and it leaves an inference model and a registered version."""
    pipeline = create_pipeline()
    assert {name for name in pipeline.inputs() if not name.startswith("params:")} == {
        "training_dir",
        "label_map",
        "metrics",
        "validation_report",
    }
    assert pipeline.all_outputs() == {"inference_model", "registered_model"}
