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
from pydantic import BaseModel, ValidationError

from resnet50_pipeline.exceptions import RunInterruptedError, TrackingError
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.tracking.operations import (
    AnyOperation,
    EndRun,
    LogArtifact,
    LogMetrics,
    LogParams,
    ReopenRun,
    SetTags,
    UploadCurves,
)
from resnet50_pipeline.tracking.outbox import FOLDER, STATE, Outbox, OutboxState
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.tracking.store import Store, resolve_store

logger = logging.getLogger(__name__)

EndState = Literal["FINISHED", "FAILED", "KILLED"]
PROJECT_TAG = "project.path"

_current: TrackedRun | None = None


@dataclass(frozen=True)
class RunDescription:
    """What is known of a run when it starts.

    Attributes:
        session: a key of the run that no other run has.
        name: what people recognise it by.
        tags: searchable facts, as git_commit, recipe, kedro.env.
        params: by group, the models, mappings or values that the run was started with.
        continues: the session of an earlier run that this one goes on with, as a training that is resumed; None for a
            run of its own.
    """

    session: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    continues: str | None = None


class TrackedRun:
    """A run that is under way. Nothing here raises because MLflow is unwell: what it is told waits in the outbox."""

    def __init__(self, outbox: Outbox, store: Store, tags: Mapping[str, str]) -> None:
        self._outbox = outbox
        self.store = store
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
        """Add tags."""
        self.tags.update(tags)
        self.tell(SetTags(tags=dict(tags)))

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log figures of the whole run."""
        self.tell(LogMetrics(metrics=dict(metrics), time_ms=_now_ms()))

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
    if description.continues:
        _take_over(folder, state)
        outbox = Outbox(folder, store, state, may_exist=True)
        is_told = outbox.deliver(ReopenRun(tags=tags, params=params))
    else:
        outbox = Outbox(folder, store, state)
        is_told = outbox.deliver(LogParams(params=params))
    if is_told:
        reconcile_runs(store, project_path)
    run = TrackedRun(outbox, store, tags)
    atexit.register(run._end_with_the_process)
    _current = run
    return run


def reconcile_runs(store: Store, project_path: Path) -> None:
    """Deliver what dead processes of this project could not, and mark the runs that they left RUNNING as KILLED."""
    for path in sorted((project_path / FOLDER).glob(f"*/{STATE}")):
        _deliver_for_dead_process(path, store)
    try:
        _end_runs_of_dead_processes(store, project_path)
    except RunInterruptedError:
        raise
    except Exception as error:
        logger.warning("MLflow at %s could not be searched for runs of dead processes: %s", store.address, error)


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


def _take_over(folder: Path, state: OutboxState) -> None:
    """Let the run go on with what the process before has left to tell, all but that it ended."""
    path = folder / STATE
    if path.exists():
        left = OutboxState.model_validate_json(path.read_text(encoding="utf-8"))
        state.run_id = left.run_id
        state.operations += [operation for operation in left.operations if not isinstance(operation, EndRun)]


def _deliver_for_dead_process(path: Path, store: Store) -> None:
    try:
        state = OutboxState.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        logger.warning("%s cannot be read, and is left as it is: %s", path, error)
        return
    if state.process.may_be_alive():
        return
    if state.address != store.address:
        logger.warning("%s waits for MLflow at %s", path.parent, state.address)
        return
    if not any(isinstance(operation, EndRun) for operation in state.operations):
        state.operations.append(EndRun(status="KILLED", time_ms=_now_ms()))
    if Outbox(path.parent, store, state).flush(at_once=True):
        logger.info("MLflow was told what the run %r had left to tell", state.name)


def _end_runs_of_dead_processes(store: Store, project_path: Path) -> None:
    client = store.connect()
    experiment_id = store.find_experiment(client)
    quote = '"' if "'" in str(project_path) else "'"
    of_this_project = f"tags.`{PROJECT_TAG}` = {quote}{project_path}{quote}"
    running = client.search_runs([experiment_id], f"attributes.status = 'RUNNING' and {of_this_project}")
    for run in running:
        if not ProcessIdentity.from_tags(run.data.tags).may_be_alive():
            client.set_terminated(run.info.run_id, "KILLED")
            logger.info("the MLflow run %r is KILLED: its process is gone", run.info.run_name)


def _now_ms() -> int:
    return round(time.time() * 1000)
