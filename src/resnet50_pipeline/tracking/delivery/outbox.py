"""Delivers a run's operations to MLflow in order, and stores them on disk while MLflow is unavailable.

If the disk is not writable either, the operations stay in memory, and are lost only if the process ends before MLflow
is available again.
"""

from __future__ import annotations

import logging
import threading
import time

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from resnet50_pipeline.exceptions import RunInterruptedError, TrackingError
from resnet50_pipeline.tracking.delivery.operations import SESSION_TAG, EndRun, LogArtifact, find_run
from resnet50_pipeline.tracking.delivery.outbox_folder import AnyOperation, OutboxFolder, OutboxState
from resnet50_pipeline.tracking.store import Store

logger = logging.getLogger(__name__)

RETRY_SECONDS = 30.0
# Error codes of requests that are not worth retrying.
_REFUSALS = frozenset(
    {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "PERMISSION_DENIED"}
)


class Outbox:
    """Thread-safe queue of a run's operations that MLflow has not received yet."""

    def __init__(
        self,
        folder: OutboxFolder,
        store: Store,
        state: OutboxState,
        *,
        may_exist: bool = False,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Create an outbox that contains the operations in `state`.

        Args:
            folder: folder for operations that cannot be delivered. The operations in `state` are already stored there.
            store: MLflow store that receives the operations.
            state: the run and its undelivered operations.
            may_exist: whether an earlier process may have created the run in MLflow.
            retry_seconds: time to wait after a failed request before sending another request.
        """
        self.folder = folder
        self.is_saved = True
        """Whether every undelivered operation is on disk."""
        self._store = store
        self._state = state
        self._retry_seconds = retry_seconds
        self._client: MlflowClient | None = None
        self._saved_count = len(state.operations)
        self._continues = may_exist
        self._is_in_doubt = state.run_id is None and (may_exist or folder.path.exists())
        self._failed_at: float | None = None
        self._refused_at: float | None = None
        self.failure = ""
        """Reason why the last request failed; "" if the last request succeeded."""
        self.refusal = ""
        """Reason why the artifact store rejects files even though MLflow responds; "" if it accepts them."""
        self._disk_has_failed = False
        self._lock = threading.RLock()

    @property
    def run_id(self) -> str | None:
        """MLflow's ID for the run, or None if MLflow has not created the run yet."""
        return self._state.run_id

    @property
    def session(self) -> str:
        """Unique key of the run. Unlike MLflow's ID, it is known from the start."""
        return self._state.session

    @property
    def answers(self) -> bool:
        """Whether MLflow responded to the last request, even if its artifact store rejected files."""
        return self._failed_at is None

    def add(self, *operations: AnyOperation) -> None:
        """Append operations without sending them. The next flush delivers them."""
        with self._lock:
            self._state.operations += operations

    def deliver(self, *operations: AnyOperation, at_once: bool = False) -> bool:
        """Append operations and flush. MLflow errors are logged instead of raised."""
        with self._lock:
            self.add(*operations)
            try:
                return self.flush(at_once=at_once)
            except TrackingError as error:
                logger.warning("%s", error)
                self._save()
                return False

    def flush(self, *, at_once: bool = False) -> bool:
        """Deliver all operations in order. Return False if some operations could not be delivered yet.

        Args:
            at_once: whether to send requests even if the last one failed less than `retry_seconds` ago. By default, the
                outbox backs off after a failure to avoid delaying every caller.

        Raises:
            TrackingError: if MLflow can never accept this run (see `Store.find_experiment`).
            RunInterruptedError: if the process received a signal.
        """
        with self._lock:
            if not at_once and self._is_recent(self._failed_at):
                self._save()
                return False
            try:
                if self._state.operations or self._state.run_id is None:
                    self._store.require_answer()
                client, run_id = self.connect()
                self._apply_all(client, run_id, with_uploads=at_once or not self._is_recent(self._refused_at))
            except (TrackingError, RunInterruptedError):
                raise
            except Exception as error:
                if self._failed_at is None:
                    logger.warning(
                        "MLflow at %s does not accept results (%s: %s); the run continues and keeps its results in %s",
                        *(self._store.address, type(error).__name__, error, self.folder.path),
                    )
                self._failed_at, self.failure = time.monotonic(), f"{type(error).__name__}: {error}"
                self._save()
                return False
            if self._failed_at is not None:
                logger.info("MLflow at %s is available again and has received all results so far", self._store.address)
                self._failed_at, self.failure = None, ""
            if self._state.operations:
                self._save()
                return False
            self._refused_at, self.refusal = None, ""
            self._remove_delivered()
            return True

    def connect(self) -> tuple[MlflowClient, str]:
        """Return a client and MLflow's ID of the run. If the run does not exist in MLflow, create it.

        Raises:
            TrackingError: if MLflow can never accept this run (see `Store.find_experiment`).
        """
        with self._lock:
            if self._client is None:
                self._client = self._store.connect()
            if self._state.run_id is None:
                self._state.run_id = self._create_run(self._client)
            return self._client, self._state.run_id

    def _create_run(self, client: MlflowClient) -> str:
        experiment_id = self._store.find_experiment(client)
        if self._is_in_doubt:  # the server may have created the run, but its response was lost
            found = find_run(client, experiment_id, self._state.session)
            if found is not None:
                return str(found.info.run_id)
            if self._continues:
                logger.warning(
                    "the resumed run is not in MLflow at %s; uploading all of its curves to a new run",
                    self._store.address,
                )
        self._is_in_doubt = True
        tags = self._state.tags | {SESSION_TAG: self._state.session}
        run = client.create_run(experiment_id, self._state.start_time_ms, tags, self._state.name)
        return str(run.info.run_id)

    def _apply_all(self, client: MlflowClient, run_id: str, *, with_uploads: bool) -> None:
        """Apply the operations in order. Keep files that the artifact store rejects, so that they can be sent later.

        The artifact store may be a separate service with its own permissions, so its errors must not hold up metrics or
        the end of the run. All other operations depend on earlier operations.
        """
        self._drop_missing_files()
        operations, position = self._state.operations, 0
        while position < len(operations):
            operation = operations[position]
            if isinstance(operation, LogArtifact):
                if not with_uploads or not self._try_upload(operation, client, run_id):
                    with_uploads = False
                    position += 1
                    continue
            else:
                self._apply(operation, client, run_id)
            self._remove(position)

    def _remove(self, position: int) -> None:
        del self._state.operations[position]
        if position < self._saved_count:
            self._saved_count -= 1

    def _drop_missing_files(self) -> None:
        """Remove uploads of files that no longer exist."""
        for position in reversed(range(len(self._state.operations))):
            operation = self._state.operations[position]
            if isinstance(operation, LogArtifact) and not operation.path.exists():
                logger.warning("%s no longer exists, so it was not uploaded to MLflow", operation.path)
                self._remove(position)

    def _try_upload(self, operation: LogArtifact, client: MlflowClient, run_id: str) -> bool:
        """Upload a file, and return whether it was accepted."""
        try:
            operation.apply(client, run_id)
        except RunInterruptedError:
            raise
        except Exception as error:  # each artifact store has its own errors
            if isinstance(error, MlflowException) and error.error_code in _REFUSALS - {"PERMISSION_DENIED"}:
                logger.warning("MLflow rejects %s: %s", operation.path, error.message)
                return True
            self._store.require_answer()  # raises if the server itself is the cause
            reason = f"{type(error).__name__}: {error}"
            if not self.refusal:
                logger.warning(
                    "MLflow at %s responds, but its artifact store rejects files (%s); the run continues, everything "
                    "else is delivered, and the files are kept in %s",
                    *(self._store.address, reason, self.folder.path),
                )
            self._refused_at, self.refusal = time.monotonic(), reason
            return False
        return True

    def _apply(self, operation: AnyOperation, client: MlflowClient, run_id: str) -> None:
        """Apply an operation. If a retry would be pointless, log the error instead of raising it."""
        try:
            operation.apply(client, run_id)
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            logger.warning("MLflow rejects %s: %s", operation.kind, error.message)
        if isinstance(operation, EndRun):
            self._state.has_ended = True

    def _is_recent(self, failed_at: float | None) -> bool:
        return failed_at is not None and time.monotonic() < failed_at + self._retry_seconds

    def _save(self) -> None:
        """Write all undelivered operations and their files to disk. Warn once if that fails."""
        self._drop_missing_files()
        operations = self._state.operations
        try:
            for index in range(self._saved_count, len(operations)):
                operations[index] = self.folder.copy_files(operations[index])
                self._saved_count = index + 1
            self.folder.write(self._state)
        except OSError as error:
            self.is_saved = False
            self._warn_once(
                error,
                "its results stay in memory, and are lost if this process ends before MLflow is available again",
            )
        else:
            self.is_saved = True

    def _remove_delivered(self) -> None:
        self.is_saved = True
        try:
            if self._state.has_ended:
                self.folder.remove()
            else:
                self.folder.remove_delivered()
        except OSError as error:
            self._warn_once(error, "the next run will send the stored results again, which is harmless")

    def _warn_once(self, error: OSError, consequence: str) -> None:
        if not self._disk_has_failed:
            logger.warning("cannot write to %s (%s); the run continues: %s", self.folder.path, error, consequence)
        self._disk_has_failed = True
