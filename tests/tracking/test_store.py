"""`params:tracking` determines the store that runs are saved in."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlflow_stores import EXPERIMENT, client_of, sqlite_store
from resnet50_pipeline.exceptions import ParameterError, TrackingError
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking import fetch as fetch_module
from resnet50_pipeline.tracking import store as store_module
from resnet50_pipeline.tracking.address import find_ignored_address
from resnet50_pipeline.tracking.fetch import asking_mlflow
from resnet50_pipeline.tracking.parent import given_tags
from resnet50_pipeline.tracking.store import resolve_store


def parameters(uri: str, artifact_root: str = "mlartifacts") -> TrackingParameters:
    return TrackingParameters(uri=uri, experiment=EXPERIMENT, artifact_root=Path(artifact_root))


def test_a_relative_sqlite_path_starts_at_the_project_folder(tmp_path, monkeypatch):
    """A relative database path is relative to the project folder, not to the working directory."""
    monkeypatch.chdir("/")
    store = resolve_store(parameters("sqlite:///data/mlflow.db"), tmp_path)
    assert store.uri == f"sqlite:///{tmp_path}/data/mlflow.db"
    assert store.artifact_location == f"file://{tmp_path}/mlartifacts"


def test_an_absolute_sqlite_path_is_unchanged(tmp_path):
    """The store uses the absolute database path from the parameter."""
    assert resolve_store(parameters(f"sqlite:///{tmp_path}/other.db"), Path("/project")).uri == (
        f"sqlite:///{tmp_path}/other.db"
    )


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "https://mlflow.example", "databricks"])
def test_a_server_chooses_the_artifact_location(uri, tmp_path):
    """`artifact_root` has no effect if the URI refers to a server."""
    assert resolve_store(parameters(uri), tmp_path).artifact_location is None


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "./mlruns", ""])
def test_a_folder_is_rejected(uri, tmp_path):
    """MLflow does not support file stores; the error includes the parameter and its value."""
    with pytest.raises(ParameterError, match=rf"tracking\.uri.*{re.escape(repr(uri))}"):
        resolve_store(parameters(uri), tmp_path)


@pytest.mark.parametrize("uri", ["sqlite:///:memory:", "sqlite://", "sqlite:///~/mlflow.db"])
def test_a_database_that_other_processes_cannot_find_is_rejected(uri, tmp_path):
    """For an in-memory database or a path with `~`, an error names the parameter and its value."""
    with pytest.raises(ParameterError, match=rf"tracking\.uri.*{re.escape(repr(uri))}"):
        resolve_store(parameters(uri), tmp_path)


def test_an_ignored_variable_is_found(tmp_path):
    """MLFLOW_TRACKING_URI is reported unless it equals the address in `tracking.uri`, relative or resolved."""
    tracking = parameters("sqlite:///mlflow.db")
    for same in ("", "sqlite:///mlflow.db", f"sqlite:///{tmp_path}/mlflow.db"):
        assert find_ignored_address(tracking, tmp_path, {"MLFLOW_TRACKING_URI": same}) is None
    other = {"MLFLOW_TRACKING_URI": "http://user:secret@mlflow:5000"}
    assert find_ignored_address(tracking, tmp_path, other) == "http://user:…@mlflow:5000"
    assert (
        find_ignored_address(parameters("http://mlflow:5000"), tmp_path, {"MLFLOW_TRACKING_URI": "http://mlflow:5000/"})
        is None
    )


def test_a_server_that_never_answers_is_reported_within_the_limit(tmp_path, monkeypatch):
    """A server that accepts connections but never responds is reported before MLflow's first request."""
    monkeypatch.setattr(store_module, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = resolve_store(parameters(f"http://127.0.0.1:{silent.getsockname()[1]}"), tmp_path)
        with pytest.raises(TrackingError, match=re.escape(store.uri)), asking_mlflow(store):
            pytest.fail("the block must not run")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"mlflow.runName": "mine"}, "TRACKING_RUN_NAME"),
        ({"a\nb": "1"}, r"a\\nb"),
        ({"": "1"}, "''"),
        ({"../a": "1"}, r"\.\./a"),
        ({"x" * 251: "1"}, "250"),
    ],
)
def test_tags_that_mlflow_would_reject_are_errors(tags, expected):
    """Invalid tags are errors. Otherwise, MLflow would not create the run, and results would stay in the outbox."""
    with pytest.raises(ParameterError, match=expected):
        given_tags({"TRACKING_TAGS": json.dumps(tags)})


def test_given_tags_are_shortened():
    """Other tags are accepted, and long values are shortened to MLflow's limit."""
    tags = given_tags({"TRACKING_TAGS": json.dumps({"sweep.trial": "3", "a/b c": "x" * 9000})})
    assert tags["sweep.trial"] == "3"
    assert len(tags["a/b c"]) == 8000


def test_the_address_has_no_password(tmp_path):
    """The address for messages and files contains no password; the URI for connections does."""
    store = resolve_store(parameters("postgresql://ml:s3cret@db/mlflow"), tmp_path)
    assert "s3cret" in store.uri
    assert store.address == "postgresql://ml:…@db/mlflow"


def test_the_experiment_is_created_once(tmp_path):
    """The first call creates the experiment, with artifacts below the project folder, and the second finds it."""
    store = resolve_store(sqlite_store(tmp_path), tmp_path)
    first = store.find_experiment(store.connect())
    assert store.find_experiment(store.connect()) == first
    assert client_of(tmp_path).get_experiment(first).artifact_location == f"file://{tmp_path}/mlartifacts"


def test_a_deleted_experiment_is_an_error(tmp_path):
    """The error shows the command that restores the experiment."""
    store = resolve_store(sqlite_store(tmp_path), tmp_path)
    experiment_id = store.find_experiment(store.connect())
    client_of(tmp_path).delete_experiment(experiment_id)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore -x {experiment_id}"):
        store.find_experiment(store.connect())


def test_a_download_with_a_long_address_is_stored_once(tmp_path, monkeypatch):
    """A downloaded model's folder has a name that fits any file system, and nothing else is left in the cache."""
    downloads: list[str] = []

    def download(source: str, dst_path: str, tracking_uri: str) -> None:
        downloads.append(source)
        (Path(dst_path) / "model").mkdir()
        (Path(dst_path) / "model" / "MLmodel").touch()

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
    store = resolve_store(parameters(f"https://{'é' * 300}.example"), tmp_path)
    version = SimpleNamespace(source=f"s3://bucket/{'x' * 300}")
    cache = tmp_path / "cache"
    folder = fetch_module._fetch_folder(store, version, cache)
    assert fetch_module._fetch_folder(store, version, cache) == folder
    assert downloads == [version.source]
    assert list(cache.iterdir()) == [folder]
    assert (folder / "MLmodel").is_file()


def test_a_shared_database_keeps_the_artifact_location_and_warns(tmp_path, caplog):
    """If the location cannot follow the parameter, a warning contains both. Only a database file is changed."""
    first = resolve_store(sqlite_store(tmp_path), tmp_path)
    client = client_of(tmp_path)
    experiment = first.find_experiment(client)
    caplog.clear()
    assert first.find_experiment(client) == experiment
    assert not caplog.records
    other = replace(first, artifact_location=(tmp_path / "two").as_uri())
    assert other.find_experiment(client) == experiment
    assert client.get_experiment(experiment).artifact_location == first.artifact_location
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(first.artifact_location) in record.getMessage()
    assert str(other.artifact_location) in record.getMessage()
