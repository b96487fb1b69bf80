"""Downloads registered models and artifacts of the runs that created them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow.artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from resnet50_pipeline.exceptions import TrackingError, TrackingUnreachableError, VersionNotFoundError
from resnet50_pipeline.files import replace_directory, staging_directory
from resnet50_pipeline.processes.command_line import other_command
from resnet50_pipeline.tracking.store import Store

_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[1-9][0-9]*))")
DOWNLOADS = Path(".cache") / "models"
"""Folder for downloaded models, relative to the project."""
EVIDENCE = "evaluation"
"""Artifact folder of a run with the files that the quality gate needs."""
_MAX_FOLDER_NAME = 120
_DATA = "data"
# In MLflow's model folder, the exported model is in `data/<its original folder name>`.
_MODEL_FILE = "inference.yml"


@dataclass(frozen=True)
class FetchedModel:
    """A registered model version whose files are on the local disk.

    Attributes:
        name: name of the registered model.
        version: version number.
        run_id: ID of the MLflow run that created the version.
        inference_model: folder with `inference.*`, `inference.yml` and `label_map.json`.
    """

    name: str
    version: int
    run_id: str
    inference_model: Path


def fetch_model(store: Store, reference: str, cache: Path) -> FetchedModel:
    """Return a registered version. Remote files are downloaded once and cached; local files are used in place.

    Args:
        store: store of the registered model.
        reference: `models:/name@alias` or `models:/name/version`.
        cache: folder for downloads.

    Raises:
        TrackingError: if the version or its files do not exist, or MLflow does not respond.
    """
    with asking_mlflow(store):
        version = find_version(store, reference)
        folder = _fetch_folder(store, version, cache)
    found = sorted(folder.glob(f"{_DATA}/*/{_MODEL_FILE}"))
    if not found:
        raise TrackingError(
            f"{version.name} version {version.version} has no {_MODEL_FILE}, so this project did not register it; "
            "choose a version registered by `kedro run`"
        )
    return FetchedModel(version.name, int(version.version), str(version.run_id), found[0].parent)


def fetch_evidence(store: Store, version: ModelVersion, file_name: str, folder: Path) -> Path:
    """Download a file from the `evaluation/` artifact folder of a version's run, and return its path.

    Args:
        store: store of the registered model.
        version: registered version.
        file_name: name of the file.
        folder: folder for the download.

    Raises:
        TrackingError: if the run has no such file.
    """
    client = store.connect()
    path = f"{EVIDENCE}/{file_name}"
    if version.run_id is None or path not in {file.path for file in client.list_artifacts(version.run_id, EVIDENCE)}:
        raise TrackingError(f"the run of {version.name} version {version.version} has no artifact {path}")
    return Path(client.download_artifacts(version.run_id, path, str(folder)))


def find_version(store: Store, reference: str) -> ModelVersion:
    """Return the registered version for a reference such as `models:/name@champion`.

    Raises:
        TrackingError: if the version does not exist, or the reference is malformed.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise TrackingError(f"{reference!r} is not a registered model; write models:/name@champion or models:/name/3")
    client = store.connect()
    name, alias, version = match["name"], match["alias"], match["version"]
    try:
        return client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        advice = (
            f"`{other_command('run')}` registers versions, and `{other_command('promote', 'VERSION')}` makes one the "
            "champion"
            if alias
            else "the MLflow UI lists the registered versions"
        )
        raise VersionNotFoundError(f"there is no {reference}; {advice}") from error


@contextlib.contextmanager
def asking_mlflow(store: Store) -> Iterator[None]:
    """Convert MLflow client errors to a TrackingError that identifies the store.

    Raises:
        TrackingUnreachableError: if MLflow does not respond.
        TrackingError: if MLflow rejects a request.
    """
    try:
        store.require_answer()  # fail fast: if the server hangs, MLflow's own requests take minutes to time out
        yield
    except (MlflowException, ConnectionError) as error:
        kind = TrackingUnreachableError if isinstance(error, ConnectionError) else TrackingError
        raise kind(
            f"a request to MLflow at {store.address} failed: {error}; check that the server is running and that "
            f"tracking.uri is correct"
        ) from error


def _fetch_folder(store: Store, version: ModelVersion, cache: Path) -> Path:
    source = str(version.source)
    if source.startswith(("file:", "/")):
        return Path(mlflow.artifacts.download_artifacts(source, tracking_uri=store.uri))
    # Versions never change, but another server may have the same name and number, so the folder name includes the
    # location.
    location = f"{store.address} {source}"
    # File systems allow 255 bytes in a name.
    digest = hashlib.sha256(location.encode()).hexdigest()[:16]
    folder = cache / f"{re.sub(r'[^A-Za-z0-9]+', '_', location)[-_MAX_FOLDER_NAME:]}-{digest}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with staging_directory(cache) as staged:
            mlflow.artifacts.download_artifacts(source, dst_path=str(staged), tracking_uri=store.uri)
        inner = [path.parent for path in staged.rglob("MLmodel")]
        if not folder.is_dir():  # otherwise, another process has just downloaded it and may be reading it
            replace_directory(inner[0] if inner else staged, folder)
        shutil.rmtree(staged, ignore_errors=True)
    return folder
