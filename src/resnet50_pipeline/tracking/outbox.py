"""Operations on their way to MLflow: delivered at once and in order, or kept on disk until the server is back.

What could not be delivered lies in `<project>/.mlflow_outbox/<session>/`, with copies of the files that it names, so
that neither a later run nor `make clean` takes them away:

    outbox.json      {"session": "2026-11-24T05.51.29.123Z", "run_id": null, "operations": [{"kind": "set_tags", …}], …}
    files/0/…        what operation 0 uploads
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from resnet50_pipeline.exceptions import RunInterruptedError, TrackingError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.tracking.curves import CURSOR, EVENTS
from resnet50_pipeline.tracking.operations import SESSION_TAG, AnyOperation, LogArtifact, UploadCurves, find_run
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.tracking.store import Store

logger = logging.getLogger(__name__)

FOLDER = ".mlflow_outbox"
STATE = "outbox.json"
RETRY_SECONDS = 30.0
# Codes of requests that would be refused again however often they are sent.
_REFUSALS = frozenset(
    {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "PERMISSION_DENIED"}
)


class OutboxState(BaseModel):
    """What has to be known to go on delivering in another process.

    Attributes:
        session: the run's key, also its tag `session`.
        process: who fills this outbox.
        address: `Store.address` of the store that it is meant for.
        name: the run's name in MLflow.
        tags: the run's tags from the start.
        start_time_ms: milliseconds since the Unix epoch.
        run_id: MLflow's id, once the run was created.
        operations: what was not delivered, oldest first.
    """

    model_config = ConfigDict(extra="forbid")

    session: str
    process: ProcessIdentity
    address: str
    name: str
    tags: dict[str, str]
    start_time_ms: int
    run_id: str | None = None
    operations: list[AnyOperation] = []


class Outbox:
    """Delivers the operations of one run; safe to use from several threads."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        state: OutboxState,
        *,
        may_exist: bool = False,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Fill or go on with an outbox; `may_exist` says that an earlier process may have created the run."""
        self._folder = folder
        self._store = store
        self._state = state
        self._retry_seconds = retry_seconds
        self._client: MlflowClient | None = None
        self._kept = len(state.operations)
        self._is_in_doubt = state.run_id is None and (may_exist or folder.exists())
        self._failed_at: float | None = None
        self._lock = threading.RLock()

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None as long as no server took it."""
        return self._state.run_id

    @property
    def session(self) -> str:
        """The run's key, which is known before MLflow's id."""
        return self._state.session

    def deliver(self, *operations: AnyOperation) -> bool:
        """Deliver what waits and then these; return False if something has to wait."""
        with self._lock:
            self._state.operations += operations
            return self.flush()

    def flush(self, *, at_once: bool = False) -> bool:
        """Deliver what waits; return False if something has to go on waiting.

        After a failure MLflow is left alone for a while, unless `at_once`, so that a dead server delays nobody.

        Raises:
            TrackingError: MLflow can never take this run (see `Store.find_experiment`).
            RunInterruptedError: a signal came.
        """
        with self._lock:
            if not at_once and self._failed_at is not None and time.monotonic() < self._failed_at + self._retry_seconds:
                self._keep()
                return False
            try:
                if self._state.operations or self._state.run_id is None:
                    self._store.require_answer()
                client, run_id = self.connect()
                while self._state.operations:
                    self._apply_first(client, run_id)
            except (TrackingError, RunInterruptedError):
                raise
            except Exception as error:
                if self._failed_at is None:
                    logger.warning(
                        "MLflow at %s does not take what it is told (%s: %s); the run goes on, and what it has to tell "
                        "waits in %s",
                        *(self._store.address, type(error).__name__, error, self._folder),
                    )
                self._failed_at = time.monotonic()
                self._keep()
                return False
            if self._failed_at is not None:
                logger.info("MLflow at %s answers again, and was told everything", self._store.address)
                self._failed_at = None
            self._forget()
            return True

    def connect(self) -> tuple[MlflowClient, str]:
        """Return a client and MLflow's id of the run, which is created if it is not there.

        Raises:
            TrackingError: MLflow can never take this run (see `Store.find_experiment`).
        """
        with self._lock:
            if self._client is None:
                self._client = self._store.connect()
            if self._state.run_id is None:
                self._state.run_id = self._create_run(self._client)
            return self._client, self._state.run_id

    def _create_run(self, client: MlflowClient) -> str:
        experiment_id = self._store.find_experiment(client)
        if self._is_in_doubt:  # the server may have created it, and the answer have been lost
            found = find_run(client, experiment_id, self._state.session)
            if found is not None:
                return str(found.info.run_id)
        self._is_in_doubt = True
        tags = self._state.tags | {SESSION_TAG: self._state.session}
        run = client.create_run(experiment_id, self._state.start_time_ms, tags, self._state.name)
        return str(run.info.run_id)

    def _apply_first(self, client: MlflowClient, run_id: str) -> None:
        operation = self._state.operations[0]
        try:
            operation.apply(client, run_id)
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            logger.warning("MLflow refuses %s: %s", operation.kind, error.message)
        del self._state.operations[0]
        self._kept = max(0, self._kept - 1)

    def _keep(self) -> None:
        """Write what waits, with copies of the files, to the outbox's folder."""
        operations = self._state.operations
        for index in range(self._kept, len(operations)):
            operations[index] = self._with_copies(operations[index])
        self._kept = len(operations)
        write_text(self._folder / STATE, self._state.model_dump_json(indent=2) + "\n")

    def _with_copies(self, operation: AnyOperation) -> AnyOperation:
        if not isinstance(operation, LogArtifact | UploadCurves):
            return operation
        number = len(list((self._folder / "files").glob("*")))
        folder = self._folder / "files" / str(number)
        folder.mkdir(parents=True)
        if isinstance(operation, UploadCurves):
            for name in (EVENTS, CURSOR):
                if (operation.training_dir / name).exists():
                    shutil.copy2(operation.training_dir / name, folder / name)
            return operation.model_copy(update={"training_dir": folder})
        copy = folder / operation.path.name
        if operation.path.is_dir():
            shutil.copytree(operation.path, copy)
        else:
            shutil.copy2(operation.path, copy)
        return operation.model_copy(update={"path": copy})

    def _forget(self) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)
            if not any(self._folder.parent.iterdir()):
                self._folder.parent.rmdir()
