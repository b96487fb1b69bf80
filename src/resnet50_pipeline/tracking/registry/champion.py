"""Records the champions of a registered model in an append-only journal.

MLflow moves an alias without checking its old value, so two runs that finish at the same time could both become the
champion without being compared. Parameters, however, are immutable in MLflow. Journal entries are therefore stored as
parameters of a run whose ID is in the registered model's `champion_journal` tag. The run is in a separate experiment,
so that no comparison of training runs shows these parameters.

    champion.0001            {"version": 1, "action": "gate", "by": "ada", "at": "2026-11-24T05:51:29Z", "why": "…"}
    champion.0001.settled    yes
    champion.0002            {"version": 2, …}

If several processes try to write entry 2, one succeeds; the others read its entry and decide again. An entry is marked
as settled once the alias has been moved. An unsettled last entry means that its writer died, so the process that finds
it moves the alias. If the alias differs from a settled last entry, someone moved it in MLflow's UI, and the change is
added as a new entry.

The tag is set when the model is created, because only one process can create it. If another program created the model,
the journal is in the run that created the first version, because all processes find the same run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final, Literal, TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.frozen_model import FrozenModel
from resnet50_pipeline.processes.command_line import other_command
from resnet50_pipeline.processes.user import user_name
from resnet50_pipeline.tracking.limits import shorten
from resnet50_pipeline.tracking.pages import EXPERIMENT_TAGS

logger = logging.getLogger(__name__)

CHAMPION: Final = "champion"
JOURNAL_TAG = "champion_journal"
JOURNAL_EXPERIMENT = "champion journals"
_DESCRIPTION = (
    "`kedro run` registers the versions. The alias `champion` marks the version to use; `kedro champion` shows when "
    f"and why it changed. The tag `{JOURNAL_TAG}` is the ID of the MLflow run that records these changes."
)
_MAX_REASON_LENGTH = 2000
_BUSY_RETRIES = 6
_CONFLICT_MARKERS = ("database is locked", "IntegrityError", "UniqueViolation", "deadlock", "Deadlock")
_MOVE_SECONDS = 0.5

Result = TypeVar("Result")


class Entry(FrozenModel):
    """A journal entry: one change of champion.

    Attributes:
        version: the new champion, or None if the alias was deleted.
        action: cause of the change.
        by: user name.
        at: time in UTC, in ISO 8601 format.
        why: findings of the gate, or the user's comment.
    """

    version: int | None
    action: Literal["gate", "promote", "rollback", "by_hand"]
    by: str
    at: str
    why: str = ""


@dataclass(frozen=True)
class Champion:
    """The champion as of the last time the journal was read.

    Attributes:
        version: version number, or None if there is no champion.
        number: number of the last journal entry, or 0 if there is none. The next change becomes entry `number + 1`.
    """

    version: int | None
    number: int


def journal_experiment(experiment: str) -> str:
    """Return the name of the experiment that contains the journals of a project whose runs are in `experiment`.

    On Databricks, the names of experiments are paths in the workspace, such as `/Shared/digits`. The journals are then
    in the same folder.
    """
    folder = experiment.rpartition("/")[0] if experiment.startswith("/") else ""
    return f"{folder}/{JOURNAL_EXPERIMENT}" if folder else JOURNAL_EXPERIMENT


def create_model(
    client: MlflowClient, name: str, artifact_location: str | None, experiment: str = JOURNAL_EXPERIMENT
) -> None:
    """Create a registered model and its champion journal, unless the model exists.

    Args:
        client: client of the registry.
        name: name of the model.
        artifact_location: artifact location of the journal's experiment, which never contains artifacts; None for the
            default.
        experiment: name of the journal's experiment.

    Raises:
        MlflowException: if MLflow rejects the name.
    """
    if _model_exists(client, name):
        return
    try:
        journal = _create_run(client, name, artifact_location, experiment)
    except MlflowException as error:
        # For example, this user cannot write to the experiment, or the experiment was deleted. The run of the first
        # version can contain the journal instead.
        logger.warning("MLflow experiment %r cannot be used for the journal of %s: %s", experiment, name, error)
        journal = None
    tags = {} if journal is None else {JOURNAL_TAG: journal}
    try:
        _retry_conflicts(lambda: client.create_registered_model(name, tags, _DESCRIPTION))
    except MlflowException as error:
        # If the response to a successful request is lost, MLflow's client repeats the request and finds its own model.
        if journal is not None and not _has_tag(client, name, journal):
            client.delete_run(journal)
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process has just created it
            raise


def _has_tag(client: MlflowClient, name: str, journal: str) -> bool:
    return _model_exists(client, name) and client.get_registered_model(name).tags.get(JOURNAL_TAG) == journal


def _model_exists(client: MlflowClient, name: str) -> bool:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


class ChampionJournal:
    """The champion journal of a registered model. The model must have at least one version."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        self.name = name
        self._client = client

    def settle(self) -> Champion:
        """Reconcile the alias with the journal, and return the champion."""
        may_have_overwritten = False
        while True:
            entries, settled = self._read()
            alias = self._read_alias()
            if not entries:
                if alias is None:
                    return Champion(None, 0)
                self._try_write(1, _make_entry(alias, "by_hand", "the alias was set before there was a journal"))
                continue
            number, last = len(entries), entries[-1]
            if may_have_overwritten or number not in settled:
                self._move_alias(last.version)
                # If another process added an entry in the meantime, this call has overwritten its alias. The next
                # iteration restores it.
                may_have_overwritten = len(self._read()[0]) != number
                if not may_have_overwritten:
                    self._mark_settled(number)
            elif alias == last.version:
                return Champion(alias, number)
            elif self._was_moved_by_hand(alias, number):
                self._try_write(number + 1, _make_entry(alias, "by_hand", "the alias was moved in MLflow"))

    def change(
        self, expected: Champion, version: int | None, action: Literal["gate", "promote", "rollback"], why: str
    ) -> bool:
        """Make `version` the champion if `expected` is still the champion. Return whether the change was made."""
        if not self._try_write(expected.number + 1, _make_entry(version, action, why)):
            return False
        self.settle()
        return True

    def view(self) -> list[Entry]:
        """Return the entries, oldest first, without writing anything.

        If someone has moved the alias in MLflow since the last entry, that change is listed last.
        """
        journal = self._client.get_registered_model(self.name).tags.get(JOURNAL_TAG)
        entries, settled = self._read() if journal is not None and self._is_active(journal) else ([], set())
        alias = self._read_alias()
        in_progress = bool(entries) and len(entries) not in settled
        if not in_progress and alias != (entries[-1].version if entries else None):
            moved = Entry(version=alias, action="by_hand", by="unknown", at=_now(), why="the alias was moved in MLflow")
            entries.append(moved)
        return entries

    def history(self) -> list[Entry]:
        """Return the entries, oldest first."""
        return self._read()[0]

    def previous(self) -> int | None:
        """Return the version that a rollback restores, or None if there is no previous champion.

        Rollbacks work like a stack: each one goes one champion further back.
        """
        stack: list[int | None] = []
        for entry in self.history():
            if entry.action == "rollback":
                del stack[-1:]
            elif not stack or stack[-1] != entry.version:
                stack.append(entry.version)
        return stack[-2] if len(stack) > 1 else None

    def _read(self) -> tuple[list[Entry], set[int]]:
        """Return all entries in order, and the numbers of the entries whose alias has been set."""
        params = self._client.get_run(self._run_id).data.params
        entries: list[Entry] = []
        while text := params.get(_key(len(entries) + 1)):
            entries.append(Entry.model_validate_json(text))
        settled = {number for number in range(1, len(entries) + 1) if f"{_key(number)}.settled" in params}
        return entries, settled

    def _try_write(self, number: int, entry: Entry) -> bool:
        """Write entry `number`. Read it back and return whether MLflow has stored it."""
        run_id, text = self._run_id, entry.model_dump_json()
        try:
            _retry_conflicts(lambda: self._client.log_param(run_id, _key(number), text))
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":  # the entry exists with a different value
                raise
        return bool(self._client.get_run(run_id).data.params.get(_key(number)) == text)

    def _mark_settled(self, number: int) -> None:
        _retry_conflicts(lambda: self._client.log_param(self._run_id, f"{_key(number)}.settled", "yes"))

    def _move_alias(self, version: int | None) -> None:
        if version is None:
            _retry_conflicts(lambda: self._client.delete_registered_model_alias(self.name, CHAMPION))
            return
        try:
            _retry_conflicts(lambda: self._client.set_registered_model_alias(self.name, CHAMPION, str(version)))
        except MlflowException as error:
            raise TrackingError(f"{self.name} version {version} cannot become the champion: {error}") from error

    def _read_alias(self) -> int | None:
        version = self._client.get_registered_model(self.name).aliases.get(CHAMPION)
        return None if version is None else int(version)

    def _was_moved_by_hand(self, alias: int | None, number: int) -> bool:
        """Return whether someone has moved the alias in MLflow.

        Otherwise, another process has just added an entry and is about to move the alias.
        """
        time.sleep(_MOVE_SECONDS)
        return len(self._read()[0]) == number and self._read_alias() == alias

    @cached_property
    def _run_id(self) -> str:
        """ID of the run that contains the journal.

        Processes that create the journal at the same time choose the same run.
        """
        model = self._client.get_registered_model(self.name)
        lost = model.tags.get(JOURNAL_TAG)
        if lost is not None and self._is_active(lost):
            return str(lost)
        quote = '"' if "'" in self.name else "'"
        versions = self._client.search_model_versions(f"name = {quote}{self.name}{quote}")
        if not versions:
            raise TrackingError(f"{self.name} has no version yet; `{other_command('run')}` registers a version")
        candidates = [str(one.run_id) for one in sorted(versions, key=lambda one: int(one.version)) if one.run_id]
        run_id = next(filter(self._is_active, candidates), None) or _create_run(self._client, self.name)
        if lost is not None:
            logger.warning(
                "MLflow run %s, which contained the champion journal of %s, no longer exists (`mlflow gc`); starting "
                "a new journal with the current champion in run %s",
                *(lost, self.name, run_id),
            )
        _retry_conflicts(lambda: self._client.set_registered_model_tag(self.name, JOURNAL_TAG, run_id))
        return run_id

    def _is_active(self, run_id: str) -> bool:
        """Return whether a run exists and can hold the journal.

        Raises:
            TrackingError: if the run was deleted but can still be restored.
        """
        try:
            stage = self._client.get_run(run_id).info.lifecycle_stage
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        if stage != "active":
            raise TrackingError(
                f"MLflow run {run_id}, which contains the champion journal of {self.name}, was deleted; restore it "
                f"with `mlflow runs restore --run-id {run_id}`. If its experiment was deleted, restore that first with "
                "`mlflow experiments restore`"
            )
        return True


def _create_run(
    client: MlflowClient, name: str, artifact_location: str | None = None, experiment: str = JOURNAL_EXPERIMENT
) -> str:
    """Return the ID of a new run for a journal."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        try:
            experiment_id = client.create_experiment(experiment, artifact_location, EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return _create_run(client, name, artifact_location, experiment)  # another process has just created it
    else:
        experiment_id = str(found.experiment_id)
    run = client.create_run(experiment_id, run_name=f"champion journal of {name}")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _key(number: int) -> str:
    return f"{CHAMPION}.{number:04d}"


def _make_entry(version: int | None, action: Literal["gate", "promote", "rollback", "by_hand"], why: str) -> Entry:
    # Microseconds make entries unique, so that a process recognizes the entries that it wrote.
    return Entry(version=version, action=action, by=user_name(), at=_now(), why=shorten(why, _MAX_REASON_LENGTH))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _retry_conflicts(call: Callable[[], Result]) -> Result:
    """Return the result of `call`, retrying it after conflicts with writes from other processes.

    SQLite locks the whole file during a write, and MLflow's "insert or update" is two statements.
    """
    for attempt in range(_BUSY_RETRIES):
        try:
            return call()
        except MlflowException as error:
            if not any(sign in str(error) for sign in _CONFLICT_MARKERS) or attempt == _BUSY_RETRIES - 1:
                raise
            time.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")
