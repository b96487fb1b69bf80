"""What dead processes left behind: told to MLflow if they could not tell it, and their runs ended as KILLED."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from resnet50_pipeline.exceptions import RunInterruptedError, TrackingError
from resnet50_pipeline.tracking.operations import EndRun
from resnet50_pipeline.tracking.outbox import FOLDER, STATE, Outbox, OutboxState
from resnet50_pipeline.tracking.process import ProcessIdentity
from resnet50_pipeline.tracking.store import Store

logger = logging.getLogger(__name__)

PROJECT_TAG = "project.path"

Fate = Literal["delivered", "waiting", "in use", "elsewhere", "unreadable"]


@dataclass(frozen=True)
class LeftOutbox:
    """What became of an outbox on the disk.

    Attributes:
        name: of the run; of the folder, where it cannot be read.
        fate: told to MLflow; still waiting for it; filled by a living process; meant for another store; damaged.
        detail: how much was told, why it waits, which process or store it belongs to.
    """

    name: str
    fate: Fate
    detail: str


@dataclass(frozen=True)
class Reconciliation:
    """What was put right.

    Attributes:
        outboxes: that lay on the disk, the oldest first.
        killed: names of the runs that dead processes had left RUNNING.
        problem: why MLflow could not be searched for them; "" where it could.
    """

    outboxes: tuple[LeftOutbox, ...]
    killed: tuple[str, ...]
    problem: str

    @property
    def is_complete(self) -> bool:
        """Whether nothing of a dead process is left for another time."""
        return not self.problem and all(box.fate in ("delivered", "in use") for box in self.outboxes)


def reconcile_runs(store: Store, project_path: Path) -> Reconciliation:
    """Deliver what dead processes of this project could not, and mark the runs that they left RUNNING as KILLED."""
    outboxes = tuple(
        _deliver_for_dead_process(path, store) for path in sorted((project_path / FOLDER).glob(f"*/{STATE}"))
    )
    try:
        store.require_answer()
        killed, problem = _end_runs_of_dead_processes(store, project_path), ""
    except RunInterruptedError:
        raise
    except Exception as error:
        killed, problem = (), f"{type(error).__name__}: {error}"
        logger.warning("MLflow at %s could not be searched for runs of dead processes: %s", store.address, error)
    return Reconciliation(outboxes, killed, problem)


def _deliver_for_dead_process(path: Path, store: Store) -> LeftOutbox:
    try:
        lock = os.open(path.parent, os.O_RDONLY)
    except FileNotFoundError:
        return LeftOutbox(path.parent.name, "delivered", "by another process")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that deliver one outbox could both create its run
        return _deliver_outbox(path, store)
    finally:
        os.close(lock)


def _deliver_outbox(path: Path, store: Store) -> LeftOutbox:
    try:
        state = OutboxState.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return LeftOutbox(path.parent.name, "delivered", "by another process")
    except ValidationError as error:
        logger.warning("%s cannot be read, and is left as it is: %s", path, error)
        return LeftOutbox(path.parent.name, "unreadable", f"{path}: {error.error_count()} problem(s)")
    if state.process.may_be_alive():
        return LeftOutbox(state.name, "in use", f"by process {state.process.pid} on {state.process.host}")
    if state.address != store.address:
        logger.warning("%s waits for MLflow at %s", path.parent, state.address)
        return LeftOutbox(state.name, "elsewhere", f"it waits for MLflow at {state.address}")
    return _flush(path.parent, store, state)


def _flush(folder: Path, store: Store, state: OutboxState) -> LeftOutbox:
    if not any(isinstance(operation, EndRun) for operation in state.operations):
        state.operations.append(EndRun(status="KILLED", time_ms=round(time.time() * 1000)))
    waiting = len(state.operations)
    try:
        is_told, why = Outbox(folder, store, state).flush(at_once=True), "MLflow does not answer"
    except TrackingError as error:
        is_told, why = False, str(error)
    if not is_told:
        return LeftOutbox(state.name, "waiting", f"{len(state.operations)} messages, in {folder}: {why}")
    logger.info("MLflow was told what the run %r had left to tell", state.name)
    return LeftOutbox(state.name, "delivered", f"{waiting} messages")


def _end_runs_of_dead_processes(store: Store, project_path: Path) -> tuple[str, ...]:
    client = store.connect()
    experiment_id = store.find_experiment(client)
    quote = '"' if "'" in str(project_path) else "'"
    of_this_project = f"tags.`{PROJECT_TAG}` = {quote}{project_path}{quote}"
    running = client.search_runs([experiment_id], f"attributes.status = 'RUNNING' and {of_this_project}")
    killed = []
    for run in running:
        if not ProcessIdentity.from_tags(run.data.tags).may_be_alive():
            client.set_terminated(run.info.run_id, "KILLED")
            logger.info("the MLflow run %r is KILLED: its process is gone", run.info.run_name)
            killed.append(str(run.info.run_name))
    return tuple(killed)
