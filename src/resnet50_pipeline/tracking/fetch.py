"""Registered models and the files of their runs, brought to this machine."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow.artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.files import replace_directory, staging_directory
from resnet50_pipeline.tracking.store import Store

_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[1-9][0-9]*))")
EVIDENCE = "evaluation"
"""Folder of a run's artifacts that holds what a version was judged by."""
_DATA = "data"
# In MLflow's model folders the exported model lies below `data/`, under the name that it had.
_MODEL_FILE = "inference.yml"


@dataclass(frozen=True)
class FetchedModel:
    """A registered version on this machine.

    Attributes:
        name: of the registered model.
        version: its number.
        run_id: MLflow run that it was made in.
        inference_model: folder with `inference.*`, `inference.yml` and `label_map.json`.
    """

    name: str
    version: int
    run_id: str
    inference_model: Path


def is_registered_reference(text: str) -> bool:
    """Return whether a text is meant as `models:/name@alias` or `models:/name/version`."""
    return text.startswith("models:")


def fetch_model(store: Store, reference: str, cache: Path) -> FetchedModel:
    """Return the version that `models:/name@alias` or `models:/name/version` names.

    A store of this machine has it in a folder, which is used as it is; from a server it is downloaded once.

    Args:
        store: where it is registered.
        reference: which one.
        cache: folder for downloads.

    Raises:
        TrackingError: there is no such version, its files are gone, or MLflow does not answer.
    """
    with asking_mlflow(store):
        version = find_version(store, reference)
        folder = _fetch_folder(store, version, cache)
    found = sorted(folder.glob(f"{_DATA}/*/{_MODEL_FILE}"))
    if not found:
        raise TrackingError(
            f"{version.name} version {version.version} has no {_MODEL_FILE}: not a model of this project"
        )
    return FetchedModel(version.name, int(version.version), str(version.run_id), found[0].parent)


def fetch_evidence(store: Store, version: ModelVersion, file_name: str, folder: Path) -> Path:
    """Return a file that the run of a version keeps below `evaluation/`, in `folder`.

    Raises:
        TrackingError: it keeps no such file.
    """
    client = store.connect()
    path = f"{EVIDENCE}/{file_name}"
    if version.run_id is None or path not in {file.path for file in client.list_artifacts(version.run_id, EVIDENCE)}:
        raise TrackingError(f"the run of {version.name} version {version.version} keeps no {path}")
    return Path(client.download_artifacts(version.run_id, path, str(folder)))


def find_version(store: Store, reference: str) -> ModelVersion:
    """Return the version that a reference names.

    Raises:
        TrackingError: there is none, or the text is no reference.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise TrackingError(f"{reference!r} names no registered model; write models:/name@champion or models:/name/3")
    client = store.connect()
    name, alias, version = match["name"], match["alias"], match["version"]
    try:
        return client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        advice = (
            "`kedro promote VERSION` makes one the champion, and `kedro run` registers versions"
            if alias
            else "`make ui` shows those that are there"
        )
        raise TrackingError(f"there is no {reference}; {advice}") from error


@contextlib.contextmanager
def asking_mlflow(store: Store) -> Iterator[None]:
    """Turn what MLflow's client raises into one message that names the store.

    Raises:
        TrackingError: MLflow refused, or did not answer.
    """
    try:
        yield
    except MlflowException as error:
        raise TrackingError(f"MLflow at {store.address} did not give what was asked for: {error}") from error


def _fetch_folder(store: Store, version: ModelVersion, cache: Path) -> Path:
    source = str(version.source)
    if source.startswith(("file:", "/")):
        return Path(mlflow.artifacts.download_artifacts(source, tracking_uri=store.uri))
    # A version never changes, but another server may have one of the same name and number: its place tells them apart.
    folder = cache / re.sub(r"\W+", "_", f"{store.address} {source}")
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with staging_directory(cache) as staged:
            mlflow.artifacts.download_artifacts(source, dst_path=str(staged), tracking_uri=store.uri)
        inner = [path.parent for path in staged.rglob("MLmodel")]
        replace_directory(inner[0] if inner else staged, folder)
    return folder
