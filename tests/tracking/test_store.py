"""Where runs go, by what `params:tracking` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_stores import EXPERIMENT, client_of, sqlite_store
from resnet50_pipeline.exceptions import ParameterError, TrackingError
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.store import resolve_store


def parameters(uri: str, artifact_root: str = "mlartifacts") -> TrackingParameters:
    return TrackingParameters(uri=uri, experiment=EXPERIMENT, artifact_root=Path(artifact_root))


def test_relative_sqlite_path_is_taken_from_the_project(tmp_path, monkeypatch):
    """A relative database path means the project's folder, whatever the working directory is."""
    monkeypatch.chdir("/")
    store = resolve_store(parameters("sqlite:///data/mlflow.db"), tmp_path)
    assert store.uri == f"sqlite:///{tmp_path}/data/mlflow.db"
    assert store.artifact_location == f"file://{tmp_path}/mlartifacts"


def test_absolute_sqlite_path_stays(tmp_path):
    """An absolute database path is used as it is."""
    assert resolve_store(parameters(f"sqlite:///{tmp_path}/other.db"), Path("/project")).uri == (
        f"sqlite:///{tmp_path}/other.db"
    )


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "https://mlflow.example", "databricks"])
def test_a_server_decides_on_artifacts(uri, tmp_path):
    """Where the URI is a server, artifact_root means nothing."""
    assert resolve_store(parameters(uri), tmp_path).artifact_location is None


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "./mlruns", ""])
def test_a_folder_is_refused_with_what_to_set(uri, tmp_path):
    """MLflow's file store, which MLflow itself refuses, is an error that names the setting."""
    with pytest.raises(ParameterError, match=r"tracking\.uri is .*: set sqlite:///mlflow\.db"):
        resolve_store(parameters(uri), tmp_path)


def test_address_hides_the_password(tmp_path):
    """What is shown and written of a database's address holds no password."""
    store = resolve_store(parameters("postgresql://ml:s3cret@db/mlflow"), tmp_path)
    assert "s3cret" in store.uri
    assert store.address == "postgresql://ml:…@db/mlflow"


def test_experiment_is_made_once_with_its_artifacts_in_the_project(tmp_path):
    """The first look for the experiment creates it, the second finds it."""
    store = resolve_store(sqlite_store(tmp_path), tmp_path)
    first = store.find_experiment(store.connect())
    assert store.find_experiment(store.connect()) == first
    assert client_of(tmp_path).get_experiment(first).artifact_location == f"file://{tmp_path}/mlartifacts"


def test_a_deleted_experiment_is_named_with_the_way_back(tmp_path):
    """An experiment that was deleted in MLflow's page is an error that says how to restore it."""
    store = resolve_store(sqlite_store(tmp_path), tmp_path)
    experiment_id = store.find_experiment(store.connect())
    client_of(tmp_path).delete_experiment(experiment_id)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore -x {experiment_id}"):
        store.find_experiment(store.connect())
