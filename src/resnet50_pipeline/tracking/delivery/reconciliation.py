"""Cleans up after dead processes: delivers their results and ends their runs as KILLED."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from pydantic import ValidationError

from resnet50_pipeline.exceptions import RunInterruptedError, TrackingError
from resnet50_pipeline.processes.locks import holding
from resnet50_pipeline.text import pluralize
from resnet50_pipeline.tracking.address import OUTBOX
from resnet50_pipeline.tracking.delivery.curve_writer import upload_new_events
from resnet50_pipeline.tracking.delivery.operations import SESSION_TAG, EndRun, UploadCurves
from resnet50_pipeline.tracking.delivery.outbox import Outbox
from resnet50_pipeline.tracking.delivery.outbox_folder import PROJECT_TAG, STATE, OutboxFolder, OutboxState
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.tracking.store import Store

logger = logging.getLogger(__name__)

Fate = Literal["delivered", "waiting", "in use", "elsewhere", "unreadable"]


@dataclass(frozen=True)
class FoundOutbox:
    """An outbox on disk and its delivery status.

    Attributes:
        name: name of the run, or of the folder if the state cannot be read.
        fate: `delivered`: MLflow has received the outbox. `waiting`: MLflow is unavailable. `in use`: a running process
            is adding operations. `elsewhere`: the outbox belongs to another store. `unreadable`: the outbox is damaged.
        detail: depending on the fate, the number of operations, the reason for waiting, or the owner of the outbox.
    """

    name: str
    fate: Fate
    detail: str


@dataclass(frozen=True)
class Reconciliation:
    """The result of a reconciliation.

    Attributes:
        outboxes: the outboxes on disk, oldest first.
        killed: names of the runs that were still RUNNING after their processes had died.
        problem: error that prevented a search for runs in MLflow, or "".
    """

    outboxes: tuple[FoundOutbox, ...]
    killed: tuple[str, ...]
    problem: str

    @property
    def is_complete(self) -> bool:
        """Whether MLflow has received all results of dead processes."""
        return not self.problem and all(box.fate in ("delivered", "in use") for box in self.outboxes)


def reconcile_runs(store: Store, project_path: Path) -> Reconciliation:
    """Deliver the outboxes of this project's dead processes, and end the RUNNING runs of these processes as KILLED."""
    states = sorted((project_path / OUTBOX).glob(f"*/{STATE}"))
    outboxes = tuple(_deliver_for_dead_process(OutboxFolder(path.parent), store) for path in states)
    try:
        store.require_answer()
        killed, problem = _end_runs_of_dead_processes(store, project_path), ""
    except RunInterruptedError:
        raise
    except Exception as error:
        killed, problem = (), f"{type(error).__name__}: {error}"
        logger.warning("cannot search MLflow at %s for runs of dead processes: %s", store.address, error)
    return Reconciliation(outboxes, killed, problem)


def _deliver_for_dead_process(folder: OutboxFolder, store: Store) -> FoundOutbox:
    try:
        with holding(folder.path, wait=True):  # otherwise, two processes could each create the run
            return _deliver_outbox(folder, store)
    except FileNotFoundError:
        return FoundOutbox(folder.path.name, "delivered", "by another process")


def _deliver_outbox(folder: OutboxFolder, store: Store) -> FoundOutbox:
    try:
        state = folder.read()
    except ValidationError as error:
        logger.warning("cannot read %s, which is left unchanged: %s", folder.path, error)
        problems = pluralize(error.error_count(), "problem")
        return FoundOutbox(folder.path.name, "unreadable", f"{folder.path}: {problems}")
    if state.process.may_be_alive():
        return FoundOutbox(state.name, "in use", f"by process {state.process.pid} on {state.process.host}")
    if state.address != store.address:
        logger.warning("%s is waiting for MLflow at %s", folder.path, state.address)
        return FoundOutbox(state.name, "elsewhere", f"it belongs to MLflow at {state.address}")
    return _flush(folder, store, state)


def _flush(folder: OutboxFolder, store: Store, state: OutboxState) -> FoundOutbox:
    if not state.has_ended and not any(isinstance(operation, EndRun) for operation in state.operations):
        state.operations += [
            UploadCurves(session=state.session, training_dir=folder.samples),
            EndRun(status="KILLED", time_ms=round(time.time() * 1000)),
        ]
    count = len(state.operations)
    outbox = Outbox(folder, store, state)
    try:
        is_delivered, reason = outbox.flush(at_once=True), outbox.failure
        if outbox.answers and not is_delivered:
            reason = f"the artifact store rejects files ({outbox.refusal})"
    except TrackingError as error:
        is_delivered, reason = False, str(error)
    if not is_delivered:
        return FoundOutbox(state.name, "waiting", f"{len(state.operations)} operations, in {folder.path}: {reason}")
    logger.info("MLflow has received the remaining results of run %r", state.name)
    return FoundOutbox(state.name, "delivered", f"{count} operations")


def _end_runs_of_dead_processes(store: Store, project_path: Path) -> tuple[str, ...]:
    client = store.connect()
    experiment_id = store.find_experiment(client)
    quote = '"' if "'" in str(project_path) else "'"
    of_this_project = f"tags.`{PROJECT_TAG}` = {quote}{project_path}{quote}"
    running = client.search_runs([experiment_id], f"attributes.status = 'RUNNING' and {of_this_project}")
    killed = []
    for run in running:
        if not ProcessIdentity.from_tags(run.data.tags).may_be_alive():
            _upload_samples(client, run.info.run_id, run.data.tags.get(SESSION_TAG, ""), project_path)
            client.set_terminated(run.info.run_id, "KILLED")
            logger.info("marked MLflow run %r as KILLED, because its process has ended", run.info.run_name)
            killed.append(str(run.info.run_name))
    return tuple(killed)


def _upload_samples(client: MlflowClient, run_id: str, session: str, project_path: Path) -> None:
    """Upload the remaining system samples of a killed process, and then remove the samples."""
    # Look the session up among the existing folders: it may come from an environment variable, so do not trust it as a
    # path.
    folders = {path.name: OutboxFolder(path) for path in (project_path / OUTBOX).glob("*")}
    if folder := folders.get(session):
        with contextlib.suppress(FileNotFoundError), holding(folder.path, wait=True):
            upload_new_events(client, run_id, session, folder.samples)
            folder.remove_samples()
