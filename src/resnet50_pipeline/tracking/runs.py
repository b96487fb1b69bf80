"""Opens MLflow runs, logs to them, and ends them.

Every run eventually ends as FINISHED, FAILED or KILLED. If the process or the server dies, a later run sets the status.
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
from pydantic import BaseModel

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import TrackingParameters
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
from resnet50_pipeline.tracking.parent import Parent
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.tracking.store import Store, resolve_store

logger = logging.getLogger(__name__)

PARENT_KIND_TAG, STAGE_TAG = "parent.kind", "dvc.stage"
# Tags that differ between children of the same parent.
_CHILD_TAGS = frozenset({STAGE_TAG, "kedro.pipelines", "kedro.nodes"})

_current: TrackedRun | None = None


@dataclass(frozen=True)
class RunDescription:
    """The properties of a run that are known when it starts.

    Attributes:
        session: unique key of the run.
        name: display name.
        tags: searchable properties, for example git_commit, recipe and environment.
        params: parameters keyed by group. Each group is a model, a mapping or a single value.
        continues: session of the run that this run continues, for example when training is resumed. None for a new run.
        parent: run that groups this run with others, or None for a standalone run.
    """

    session: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    continues: str | None = None
    parent: Parent | None = None


class TrackedRun:
    """An MLflow run in progress.

    If MLflow is unavailable, its methods store results in the outbox instead of raising errors.
    """

    def __init__(self, outbox: Outbox, store: Store, tags: Mapping[str, str], parent: Parent | None) -> None:
        self.outbox = outbox
        self.store = store
        self.val_data: MeasuredOn | None = None
        self.tags = dict(tags)
        # Sweeps and cross-validations report their results and their end themselves, so their child runs must not.
        self._parent = None if parent is None or parent.has_own_run else parent
        self._has_ended = False

    @property
    def run_id(self) -> str | None:
        """MLflow's ID of the run, or None until MLflow has created it."""
        return self.outbox.run_id

    @property
    def session(self) -> str:
        """Unique key of the run, which is known before MLflow's ID."""
        return self.outbox.session

    def connect(self) -> tuple[MlflowClient, str]:
        """Return a client and MLflow's ID of the run, for requests that cannot be deferred. May raise MLflow errors."""
        return self.outbox.connect()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags on the run and its parent."""
        self.tags.update(tags)
        self._deliver_to_both(SetTags(tags=dict(tags)))

    def log_metrics(self, metrics: Mapping[str, float], *, on_val: bool = False, step: int = 0) -> None:
        """Log metrics of the entire run to the run and its parent.

        Args:
            metrics: values keyed by name.
            on_val: whether the values were measured on the validation split. If so, MLflow links them to that split.
            step: position on the x-axis, for values that form a curve.
        """
        dataset = self.val_data if on_val else None
        self._deliver_to_both(LogMetrics(metrics=dict(metrics), time_ms=_now_ms(), dataset=dataset, step=step))

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
                "MLflow at %s has received everything except files, because its artifact store refuses them (%s); get "
                "access to the artifact store, then upload the files from %s with `kedro sync-runs`",
                *(self.store.address, self.outbox.refusal, self.outbox.folder.path),
            )
        elif self.outbox.is_saved:
            logger.warning(
                "MLflow at %s has not received all results; the next run delivers the rest", self.store.address
            )
        else:
            logger.warning(
                "MLflow at %s has not received all results, and the rest is lost because %s cannot be written; "
                "make that folder writable before the next run",
                *(self.store.address, self.outbox.folder.path),
            )

    def _deliver_to_both(self, operation: SetTags | LogMetrics) -> None:
        if self._parent is None:
            self.outbox.deliver(operation)
        else:
            self.outbox.deliver(operation, UpdateOtherRun(session=self._parent.session, operation=operation))

    def _end_with_process(self) -> None:
        self.end("KILLED")  # a process that finishes or fails normally has already ended its run


def require_current_run() -> TrackedRun:
    """Return the run that this process is tracking.

    Raises:
        TrackingError: if no run is open, for example because the pipeline runs without the project's hooks.
    """
    if _current is None:
        raise TrackingError("no MLflow run is open; `kedro run`, or a KedroSession of this project, opens one")
    return _current


def open_run(description: RunDescription, tracking: TrackingParameters, project_path: Path) -> TrackedRun:
    """Start or continue a run, then clean up after dead processes of this project (see `reconcile_runs`).

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
    run = TrackedRun(outbox, store, tags, description.parent)
    atexit.register(run._end_with_process)
    _current = run
    return run


def flatten_params(groups: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters keyed by dotted name, such as `{"training.lr.name": "Cosine"}`. A list is a single value."""
    flat: dict[str, str] = {}
    for key, value in groups.items():
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        if isinstance(plain, Mapping) and plain:
            flat |= {f"{key}.{name}": text for name, text in flatten_params(plain).items()}
        else:
            flat[key] = str(plain)
    return flat


def _join(parent: Parent, description: RunDescription, project_path: Path) -> JoinParent:
    """Return the operation that makes the run a child of `parent`. The parent gets the tags that all children share."""
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
    if previous.address == state.address:  # an ID is valid only in its own store
        state.run_id = previous.run_id
    state.operations += [operation for operation in previous.operations if not isinstance(operation, EndRun)]


def _now_ms() -> int:
    return round(time.time() * 1000)
