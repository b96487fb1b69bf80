"""Opens MLflow runs, logs to them, and ends them.

Every run eventually ends as FINISHED, FAILED or KILLED. If the process or the server dies first, a later run sets the
status.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.files import digest_json
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.processes.command_line import other_command
from resnet50_pipeline.tracking.address import find_home
from resnet50_pipeline.tracking.delivery.operations import (
    EndRun,
    EndState,
    LogArtifact,
    LogDataset,
    LogMetrics,
    LogParams,
    MeasuredOn,
    ReopenRun,
    SetTags,
)
from resnet50_pipeline.tracking.delivery.outbox import Outbox
from resnet50_pipeline.tracking.delivery.outbox_folder import PROJECT_TAG, OutboxFolder, OutboxState
from resnet50_pipeline.tracking.delivery.parent_operations import EndParent, JoinParent, UpdateOtherRun
from resnet50_pipeline.tracking.delivery.reconciliation import reconcile_runs
from resnet50_pipeline.tracking.pages import NOTE_TAG
from resnet50_pipeline.tracking.parent import Parent
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.tracking.store import Store, resolve_store

logger = logging.getLogger(__name__)

# Digest of the description that this project wrote. It shows whether someone has edited the description since.
# MLflow's pages hide tags with this prefix.
_OWN_NOTE_TAG = "mlflow.note.digest"

PARENT_KIND_TAG, STAGE_TAG = "parent.kind", "dvc.stage"
# Tags that differ between children of the same parent.
_CHILD_TAGS = frozenset({STAGE_TAG, "kedro.pipelines", "kedro.nodes"})

_current: TrackedRun | None = None


@dataclass(frozen=True)
class RunDescription:
    """Properties of a run that are known at its start.

    Attributes:
        session: unique key of the run.
        name: display name.
        tags: searchable properties, for example git_commit, recipe and environment.
        params: parameters keyed by group. Each group is a model, a mapping or a single value.
        continues: session of the run to continue, such as a resumed training run. None for a new run.
        parent: run that groups this run with others, or None for a standalone run.
    """

    session: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    continues: str | None = None
    parent: Parent | None = None


@dataclass(frozen=True)
class StoredRun:
    """A run as stored in MLflow.

    Attributes:
        experiment_id: MLflow's ID of the experiment.
        has_foreign_note: whether someone has written or edited the run's description in MLflow.
    """

    experiment_id: str
    has_foreign_note: bool


class TrackedRun:
    """An MLflow run in progress.

    While MLflow is unavailable, results are kept in the outbox and no errors are raised.
    """

    def __init__(
        self, outbox: Outbox, store: Store, tags: Mapping[str, str], parent: Parent | None, name: str = ""
    ) -> None:
        self.name = name
        self.outbox = outbox
        self.store = store
        self.val_data: MeasuredOn | None = None
        self.tags = dict(tags)
        self._metric_times_ms: dict[str, int] = {}
        # Sweeps and cross-validations log their own results and end their own runs, so their children must not do this
        # for them.
        self._parent = None if parent is None or parent.has_own_run else parent
        self._has_ended = False

    @property
    def run_id(self) -> str | None:
        """MLflow's ID of the run, or None until MLflow has created it."""
        return self.outbox.run_id

    @property
    def session(self) -> str:
        """Unique key of the run. Unlike MLflow's ID, it is known from the start."""
        return self.outbox.session

    def connect(self) -> tuple[MlflowClient, str]:
        """Return a client and MLflow's ID of the run, for requests that cannot be deferred. Can raise MLflow errors."""
        return self.outbox.connect()

    def read(self) -> StoredRun | None:
        """Return the run as stored in MLflow, or None if MLflow is unavailable."""
        if self.run_id is None or not self.outbox.answers:
            return None
        try:
            client, run_id = self.connect()
            run = client.get_run(run_id)
        except (MlflowException, OSError) as error:
            logger.debug("MLflow at %s is not responding: %s", self.store.address, error)
            return None
        note = run.data.tags.get(NOTE_TAG, "")
        is_foreign = bool(note) and run.data.tags.get(_OWN_NOTE_TAG) != digest_json(note)
        return StoredRun(str(run.info.experiment_id), is_foreign)

    def describe(self, note: str, stored: StoredRun) -> None:
        """Set the run's Markdown description, unless someone has edited it in MLflow.

        The description of the parent run does not change.

        Args:
            note: the description.
            stored: result of `read`.
        """
        if stored.has_foreign_note:
            return
        self.outbox.deliver(SetTags(tags={NOTE_TAG: note, _OWN_NOTE_TAG: digest_json(note)}))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags on the run and its parent."""
        self.tags.update(tags)
        self._deliver_to_both(SetTags(tags=dict(tags)))

    def log_metrics(self, metrics: Mapping[str, float], *, on_val: bool = False, step: int = 0) -> None:
        """Log metrics of the entire run to the run and its parent.

        Args:
            metrics: values keyed by name.
            on_val: whether to link the values to the validation split, because they were measured on this split.
            step: position on the x-axis, for values that form a curve.
        """
        dataset, time_ms = self.val_data if on_val else None, _now_ms()
        self._metric_times_ms |= dict.fromkeys(metrics, time_ms)
        self._deliver_to_both(LogMetrics(metrics=dict(metrics), time_ms=time_ms, dataset=dataset, step=step))

    def metric_time_ms(self, name: str) -> int:
        """Return the time at which this process last logged a metric, or the current time if it has not.

        The time is in milliseconds since the Unix epoch. If a value is logged again with the same timestamp, MLflow
        keeps a single point.
        """
        return self._metric_times_ms.get(name, _now_ms())

    def log_datasets(self, train: LogDataset, val: LogDataset) -> None:
        """Record both splits as inputs of the run."""
        self.val_data = MeasuredOn(name=val.name, digest=val.digest)
        self.outbox.deliver(train, val)

    def log_artifact(self, path: Path, folder: str) -> None:
        """Upload a file or folder to `folder` below the run's artifacts."""
        self.outbox.deliver(LogArtifact(path=path, folder=folder))

    def tag_run(self, session: str, tags: Mapping[str, str]) -> None:
        """Set tags on another run in the same experiment, for example a sweep's trial."""
        self.outbox.deliver(UpdateOtherRun(session=session, operation=SetTags(tags=dict(tags))))

    def end(self, state: EndState) -> None:
        """End the run. Later calls have no effect."""
        global _current  # noqa: PLW0603 - a process tracks one run at a time
        if self._has_ended:
            return
        self._has_ended = True
        atexit.unregister(self._end_with_process)
        if _current is self:
            _current = None
        if self._parent is not None:
            self.outbox.add(EndParent(session=self._parent.session, status=state, time_ms=_now_ms()))
        if self.outbox.deliver(EndRun(status=state, time_ms=_now_ms()), at_once=True):
            return
        if self.outbox.is_saved and self.outbox.answers:
            logger.warning(
                "MLflow at %s has received everything except the files, which its artifact store rejected (%s); get "
                "access to the artifact store, then upload the files in %s with `%s`",
                *(self.store.address, self.outbox.refusal, self.outbox.folder.path, other_command("sync-runs")),
            )
        elif self.outbox.is_saved:
            logger.warning(
                "MLflow at %s has not received all results yet; the next run will deliver the remaining results",
                self.store.address,
            )
        else:
            logger.warning(
                "MLflow at %s has not received all results, and the remaining results are lost because %s is not "
                "writable; make this folder writable before the next run",
                *(self.store.address, self.outbox.folder.path),
            )

    def _deliver_to_both(self, operation: SetTags | LogMetrics) -> None:
        if self._parent is None:
            self.outbox.deliver(operation)
        else:
            self.outbox.deliver(operation, UpdateOtherRun(session=self._parent.session, operation=operation))

    def _end_with_process(self) -> None:
        self.end("KILLED")  # has no effect if the run has already finished or failed


def require_current_run() -> TrackedRun:
    """Return the run that this process is tracking.

    Raises:
        TrackingError: if no run is open, as when the pipeline runs without the project's hooks.
    """
    if _current is None:
        raise TrackingError("no MLflow run is open; use `kedro run` or a KedroSession of this project, which opens one")
    return _current


def open_run(description: RunDescription, tracking: TrackingParameters, project_path: Path) -> TrackedRun:
    """Start or continue a run, and clean up after this project's dead processes (see `reconcile_runs`).

    Raises:
        ParameterError: if `tracking.uri` is neither a server nor a database.
        TrackingError: if the experiment was deleted.
    """
    global _current  # noqa: PLW0603
    project_path = find_home(project_path)
    store = resolve_store(tracking, project_path)
    process = ProcessIdentity.of_this_process()
    tags = {**description.tags, **process.as_tags(), PROJECT_TAG: str(project_path)}
    state = OutboxState(
        session=description.continues or description.session,
        process=process,
        address=store.address,
        name=description.name,
        tags=tags,
        start_time_ms=_now_ms(),
    )
    folder = OutboxFolder.of(project_path, state.session)
    params = flatten_params(description.params)
    if description.continues:
        _take_over(folder, state)
        outbox = Outbox(folder, store, state, may_exist=True)
        outbox.add(ReopenRun(tags=tags, params=params))
    else:
        outbox = Outbox(folder, store, state)
        outbox.add(LogParams(params=params))
    if description.parent is not None:
        outbox.add(_join(description.parent, description, project_path))
    outbox.flush()
    if outbox.answers:
        reconcile_runs(store, project_path)
    run = TrackedRun(outbox, store, tags, description.parent, description.name)
    atexit.register(run._end_with_process)
    _current = run
    return run


def flatten_params(groups: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters keyed by dotted name, such as `{"training.lr.name": "Cosine"}`. A list counts as one value."""
    flat: dict[str, str] = {}
    for key, value in groups.items():
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        if isinstance(plain, Mapping) and plain:
            flat |= {f"{key}.{name}": text for name, text in flatten_params(plain).items()}
        else:
            flat[key] = str(plain)
    return flat


def _join(parent: Parent, description: RunDescription, project_path: Path) -> JoinParent:
    """Return the operation that makes the run a child of `parent`. The parent gets the tags shared by all children."""
    own = parent.process.as_tags() | {PROJECT_TAG: str(project_path), PARENT_KIND_TAG: parent.kind}
    shared = {key: value for key, value in description.tags.items() if key not in _CHILD_TAGS}
    return JoinParent(
        session=parent.session,
        name=" ".join([*description.name.split()[:2], parent.title]),
        tags=shared | own,
        start_time_ms=min(_now_ms(), round(parent.process.started * 1000)),
        is_retry=parent.is_retry,
    )


def _take_over(folder: OutboxFolder, state: OutboxState) -> None:
    """Add the undelivered operations of the previous process to `state`, except the end of the run."""
    try:
        previous = folder.read()
    except FileNotFoundError:
        return
    if previous.address == state.address:  # IDs are only valid in their own store
        state.run_id = previous.run_id
    state.operations += [operation for operation in previous.operations if not isinstance(operation, EndRun)]


def _now_ms() -> int:
    return round(time.time() * 1000)
