"""MLflow runs that end as what they were: FINISHED, FAILED or KILLED, whatever becomes of process and server."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from pydantic import BaseModel

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.operations import (
    AnyOperation,
    EndParent,
    EndRun,
    JoinParent,
    LogArtifact,
    LogDataset,
    LogMetrics,
    LogParams,
    MeasuredOn,
    ReopenRun,
    SetTags,
    TellRun,
    UploadCurves,
)
from resnet50_pipeline.tracking.outbox import FOLDER, STATE, Outbox, OutboxState
from resnet50_pipeline.tracking.parent import Parent
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.tracking.reconciliation import PROJECT_TAG, reconcile_runs
from resnet50_pipeline.tracking.store import Store, resolve_store

logger = logging.getLogger(__name__)

EndState = Literal["FINISHED", "FAILED", "KILLED"]
PARENT_KIND_TAG, STAGE_TAG = "parent.kind", "dvc.stage"
_OF_ONE_CHILD = frozenset({STAGE_TAG, "kedro.pipelines", "kedro.nodes"})

_current: TrackedRun | None = None


@dataclass(frozen=True)
class RunDescription:
    """What is known of a run when it starts.

    Attributes:
        session: a key of the run that no other run has.
        name: what people recognise it by.
        tags: searchable facts, as git_commit, recipe, environment.
        params: by group, the models, mappings or values that the run was started with.
        continues: the session of an earlier run that this one goes on with, as a training that is resumed; None for a
            run of its own.
        parent: what gathers this run with others; None for a run that stands alone.
    """

    session: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    continues: str | None = None
    parent: Parent | None = None


class TrackedRun:
    """A run that is under way. Nothing here raises because MLflow is unwell: what it is told waits in the outbox."""

    def __init__(self, outbox: Outbox, store: Store, tags: Mapping[str, str], parent: Parent | None) -> None:
        self._outbox = outbox
        self.store = store
        self._parent = parent
        self.val_data: MeasuredOn | None = None
        self.tags = dict(tags)
        self._has_ended = False

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None as long as no server took it."""
        return self._outbox.run_id

    @property
    def session(self) -> str:
        """The run's key, which is known before MLflow's id."""
        return self._outbox.session

    def connect(self) -> tuple[MlflowClient, str]:
        """Return a client and MLflow's id of the run; for what cannot wait, and may fail with MLflow's own errors."""
        return self._outbox.connect()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Add tags, to the parent run too."""
        self.tags.update(tags)
        self._tell_both(SetTags(tags=dict(tags)))

    def log_metrics(self, metrics: Mapping[str, float], *, on_val: bool = False, step: int = 0) -> None:
        """Log figures of the whole run, which the parent run shows too; `on_val` says that they are of the val list."""
        dataset = self.val_data if on_val else None
        self._tell_both(LogMetrics(metrics=dict(metrics), time_ms=_now_ms(), dataset=dataset, step=step))

    def name_data(self, train: LogDataset, val: LogDataset) -> None:
        """Make both splits inputs of the run."""
        self.val_data = MeasuredOn(name=val.name, digest=val.digest)
        self.tell(train, val)

    def log_artifact(self, path: Path, folder: str) -> None:
        """Upload a file or folder below `folder` of the run's artifacts."""
        self.tell(LogArtifact(path=path, folder=folder))

    def upload_curves(self, training_dir: Path) -> None:
        """Upload what `training_dir/events.jsonl` has and MLflow has not."""
        self.tell(UploadCurves(session=self.session, training_dir=training_dir))

    def tell(self, *operations: AnyOperation) -> None:
        """Tell MLflow, now or when it is back."""
        try:
            self._outbox.deliver(*operations)
        except TrackingError as error:
            logger.warning("%s", error)

    def _tell_both(self, operation: SetTags | LogMetrics) -> None:
        if self._parent is None or self._parent.has_run_of_its_own:
            self.tell(operation)
        else:
            self.tell(operation, TellRun(session=self._parent.session, operation=operation))

    def tag_run(self, session: str, tags: Mapping[str, str]) -> None:
        """Add tags to another run of the same experiment, as to one of a sweep's trials."""
        self.tell(TellRun(session=session, operation=SetTags(tags=dict(tags))))

    def catch_up(self) -> bool:
        """Deliver what waits, if MLflow answers; return False if something has to go on waiting."""
        return self._outbox.flush()

    def end(self, state: EndState) -> None:
        """Say how the run ended; only the first time counts."""
        global _current  # noqa: PLW0603 - a process tracks one run at a time
        if self._has_ended:
            return
        self._has_ended = True
        atexit.unregister(self._end_with_the_process)
        if _current is self:
            _current = None
        if self._parent is not None and not self._parent.has_run_of_its_own:
            self.tell(EndParent(session=self._parent.session, status=state, time_ms=_now_ms()))
        self.tell(EndRun(status=state, time_ms=_now_ms()))
        if not self._outbox.flush(at_once=True):
            logger.warning("MLflow at %s was not told everything; the next run tells it", self.store.address)

    def _end_with_the_process(self) -> None:
        self.end("KILLED")  # a run that ends well or with an error is ended before its process


def require_current_run() -> TrackedRun:
    """Return the run that this process tracks at the moment.

    Raises:
        TrackingError: there is none, as in a pipeline that runs without the project's hooks.
    """
    if _current is None:
        raise TrackingError("no MLflow run is open; `kedro run`, or a KedroSession of this project, opens one")
    return _current


def open_run(description: RunDescription, tracking: TrackingParameters, project_path: Path) -> TrackedRun:
    """Start a run, or go on with one, and put right what earlier processes of this project left behind.

    Raises:
        ParameterError: `tracking.uri` names no store.
        TrackingError: the experiment was deleted.
    """
    global _current  # noqa: PLW0603
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
    folder = project_path / FOLDER / state.session
    params = flatten_params(description.params)
    gathered = [_join(description.parent, description, project_path)] if description.parent else []
    if description.continues:
        _take_over(folder, state)
        outbox = Outbox(folder, store, state, may_exist=True)
        is_told = outbox.deliver(ReopenRun(tags=tags, params=params), *gathered)
    else:
        outbox = Outbox(folder, store, state)
        is_told = outbox.deliver(LogParams(params=params), *gathered)
    if is_told:
        reconcile_runs(store, project_path)
    run = TrackedRun(outbox, store, tags, description.parent)
    atexit.register(run._end_with_the_process)
    _current = run
    return run


def flatten_params(groups: Mapping[str, Any]) -> dict[str, str]:
    """Return `{"training.lr.name": "Cosine", …}`: models and mappings become dotted names, lists stay one value."""
    flat: dict[str, str] = {}
    for key, value in groups.items():
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        if isinstance(plain, Mapping) and plain:
            flat |= {f"{key}.{name}": text for name, text in flatten_params(plain).items()}
        else:
            flat[key] = str(plain)
    return flat


def _join(parent: Parent, description: RunDescription, project_path: Path) -> JoinParent:
    """Return what makes the run one of its parent's; the parent has the facts that all its children share."""
    own = parent.process.as_tags() | {PROJECT_TAG: str(project_path), PARENT_KIND_TAG: parent.kind}
    shared = {key: value for key, value in description.tags.items() if key not in _OF_ONE_CHILD}
    return JoinParent(
        session=parent.session,
        name=" ".join([*description.name.split()[:2], parent.title]),
        tags=shared | own,
        start_time_ms=min(_now_ms(), round(parent.process.started * 1000)),
        is_retry=parent.is_retry,
    )


def _take_over(folder: Path, state: OutboxState) -> None:
    """Let the run go on with what the process before has left to tell, all but that it ended."""
    path = folder / STATE
    if path.exists():
        left = OutboxState.model_validate_json(path.read_text(encoding="utf-8"))
        state.run_id = left.run_id
        state.operations += [operation for operation in left.operations if not isinstance(operation, EndRun)]


def _now_ms() -> int:
    return round(time.time() * 1000)
