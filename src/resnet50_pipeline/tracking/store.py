"""The MLflow store that `params:tracking` names."""

from __future__ import annotations

import contextlib
import gc
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.address import find_address, find_home, hide_password

# A server that is well answers in milliseconds. One that hangs would hold a request of MLflow's own for minutes.
ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class Store:
    """Where runs go.

    Attributes:
        uri: MLflow tracking URI; a SQLite path in it is absolute.
        experiment: name of the experiment.
        artifact_location: `file:` URI of the experiment's artifacts, or None where a server decides.
    """

    uri: str
    experiment: str
    artifact_location: str | None

    @property
    def address(self) -> str:
        """The URI without a password, to be shown and written."""
        return hide_password(self.uri)

    def connect(self) -> MlflowClient:
        """Return a client of the store; a database is created, or checked, at this moment."""
        client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        # MLflow and what it imports stay until the process ends. Not looked through again by each garbage collection,
        # of which SQLAlchemy causes many, a backlog of curves takes a quarter less of processor time.
        gc.freeze()
        return client

    def require_answer(self) -> None:
        """Ask a server, within seconds, whether it is there at all; a database is asked by using it.

        Raises:
            OSError: nobody answers.
        """
        if self.uri.startswith(("http://", "https://")):
            # An error in HTTP is an answer; what counts is what is said to MLflow's own requests.
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"{self.uri.rstrip('/')}/health", timeout=ANSWER_SECONDS).close()  # noqa: S310

    def find_experiment(self, client: MlflowClient) -> str:
        """Return the id of the experiment, which is created if it is not there.

        Raises:
            TrackingError: the experiment was deleted; MLflow keeps its name.
        """
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None:
            try:
                return client.create_experiment(self.experiment, artifact_location=self.artifact_location)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self.find_experiment(client)  # another process was faster
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"the MLflow experiment {self.experiment!r} was deleted; bring it back with "
                f"`mlflow experiments restore -x {experiment.experiment_id}`, or set tracking.experiment"
            )
        return str(experiment.experiment_id)


def find_deleted_experiment(uri: str, name: str) -> str | None:
    """Return the id of the experiment where a server has it as deleted; None where it is active, or not there."""
    experiment = MlflowClient(tracking_uri=uri, registry_uri=uri).get_experiment_by_name(name)
    return None if experiment is None or experiment.lifecycle_stage == "active" else str(experiment.experiment_id)


def resolve_store(tracking: TrackingParameters, project_path: Path) -> Store:
    """Return the store of `tracking`, with relative paths taken from the project's folder.

    Raises:
        ParameterError: `tracking.uri` is neither a server nor a database.
    """
    address = find_address(tracking, project_path)
    if address.kind == "server":
        return Store(address.uri, tracking.experiment, None)
    if address.file is not None:
        address.file.parent.mkdir(parents=True, exist_ok=True)
    return Store(
        address.uri, tracking.experiment, (find_home(project_path) / tracking.artifact_root).resolve().as_uri()
    )
