"""Connects to the MLflow store of `params:tracking`."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.address import (
    SQLITE,
    URI_VARIABLE,
    find_address,
    find_home,
    find_ignored_address,
    hide_password,
)
from resnet50_pipeline.tracking.pages import EXPERIMENT_TAGS
from resnet50_pipeline.tracking.relocation import follow_artifact_root

logger = logging.getLogger(__name__)

# A healthy server responds within milliseconds. If it hangs, MLflow's own requests take minutes to time out.
ANSWER_SECONDS = 3.0
_DEFAULT_EXPERIMENT = "Default"


@dataclass(frozen=True)
class Store:
    """An MLflow store and the experiment for new runs.

    Attributes:
        uri: MLflow tracking URI. SQLite paths are absolute.
        experiment: name of the experiment.
        artifact_location: `file:` URI for the experiment's artifacts, or None if the server chooses the location.
    """

    uri: str
    experiment: str
    artifact_location: str | None

    @property
    def address(self) -> str:
        """The URI without its password, for messages and files."""
        return hide_password(self.uri)

    def connect(self) -> MlflowClient:
        """Return a client for the store. If the store is a database, create its tables or check their schema."""
        if self.uri.startswith(SQLITE) and self.artifact_location is not None:
            follow_artifact_root(Path(self.uri.removeprefix(SQLITE)), self.experiment, self.artifact_location)
        client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        # SQLAlchemy triggers many garbage collections. Exempting MLflow's modules, which are never freed, cuts the CPU
        # time for uploading a backlog of curves by 25%.
        gc.freeze()
        return client

    def require_answer(self) -> None:
        """Check that the server responds within `ANSWER_SECONDS`. Databases are not checked.

        Raises:
            OSError: if the server does not respond.
        """
        require_answer(self.uri)

    def find_experiment(self, client: MlflowClient) -> str:
        """Return the ID of the experiment. Create the experiment if it does not exist.

        Warn if the artifacts of the experiment are stored elsewhere. `connect` fixes this for database files only,
        because clones in different folders can share a database server.

        Raises:
            TrackingError: if the experiment was deleted. MLflow does not reuse its name.
        """
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None:
            try:
                return client.create_experiment(self.experiment, self.artifact_location, EXPERIMENT_TAGS)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self.find_experiment(client)  # another process has just created it
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"the MLflow experiment {self.experiment!r} was deleted; restore it with "
                f"`mlflow experiments restore -x {experiment.experiment_id}`, or set tracking.experiment"
            )
        if self.artifact_location not in (None, experiment.artifact_location):
            logger.warning(
                "tracking.artifact_root is %s, but experiment %r keeps storing its artifacts in %s → set "
                "tracking.artifact_root to that folder, or choose another tracking.experiment",
                *(self.artifact_location, self.experiment, experiment.artifact_location),
            )
        _set_view(client, experiment)
        return str(experiment.experiment_id)


def _set_view(client: MlflowClient, experiment: Experiment) -> None:
    """Set the view of the experiment's runs, unless the experiment already has the current view."""
    for key, value in EXPERIMENT_TAGS.items():
        if experiment.tags.get(key) != value:
            try:
                client.set_experiment_tag(experiment.experiment_id, key, value)
            except MlflowException as error:  # the user may create runs, but not change the experiment
                logger.debug("experiment %s keeps its view: %s", experiment.name, error)


def require_answer(uri: str) -> None:
    """Check that a server responds within `ANSWER_SECONDS`, using MLflow's own credentials, certificates and proxies.

    Raises:
        OSError: if the server does not respond.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        # An HTTP error is a response too. MLflow's own requests will show whether it matters.
        credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        http_request(  # type: ignore[no-untyped-call]
            credentials, "/health", "GET", max_retries=0, timeout=ANSWER_SECONDS, raise_on_status=False
        )
    except MlflowException as error:
        # No `from error`, because MLflow's message includes the password.
        raise ConnectionError(_describe_failure(error).replace(uri, hide_password(uri))) from None


def _describe_failure(error: MlflowException) -> str:
    """Return the root cause of a failed request, such as `Connection refused`."""
    reason: object = error.__cause__ or error.__context__ or error
    for part in getattr(reason, "args", ()):
        reason = getattr(part, "reason", reason)  # urllib3's MaxRetryError, wrapped in an error from requests
    text = " ".join(str(reason).split())
    text = text.partition("): ")[2] or text
    if "CERTIFICATE_VERIFY_FAILED" in text:
        text += "; set MLFLOW_TRACKING_SERVER_CERT_PATH to the certificate of the server's CA"
    return text


@dataclass(frozen=True)
class ExperimentState:
    """State of an experiment in a store.

    Attributes:
        deleted_id: ID of the experiment if it was deleted; None otherwise.
        artifact_location: location of the artifacts of new runs; "" if unknown.
    """

    deleted_id: str | None
    artifact_location: str


def read_experiment(uri: str, name: str) -> ExperimentState:
    """Return the state of an experiment without creating it.

    If the experiment does not exist, its artifact location is derived from the artifact location of the default
    experiment.
    """
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        default = client.get_experiment_by_name(_DEFAULT_EXPERIMENT)
        return ExperimentState(None, "" if default is None else str(default.artifact_location).rpartition("/")[0])
    is_deleted = experiment.lifecycle_stage != "active"
    deleted_id = str(experiment.experiment_id) if is_deleted else None
    return ExperimentState(deleted_id, str(experiment.artifact_location))


def resolve_store(tracking: TrackingParameters, project_path: Path) -> Store:
    """Return the store configured in `tracking`, with relative paths resolved against the project folder.

    Raises:
        ParameterError: if `tracking.uri` is neither a server nor a database.
    """
    address = find_address(tracking, project_path)
    if (ignored := find_ignored_address(tracking, project_path)) is not None:
        logger.warning(
            "ignoring %s=%s, because tracking.uri is %s → unset the variable, or change tracking.uri",
            *(URI_VARIABLE, ignored, address.shown),
        )
    if address.kind == "server":
        return Store(address.uri, tracking.experiment, None)
    if address.file is not None:
        address.file.parent.mkdir(parents=True, exist_ok=True)
    return Store(
        address.uri, tracking.experiment, (find_home(project_path) / tracking.artifact_root).resolve().as_uri()
    )
