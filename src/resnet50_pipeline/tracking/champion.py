"""Who the champion of a registered model is, and was: a journal in which each entry can be written only once.

MLflow moves an alias without asking what it pointed to, so two runs that finish at once would both win, and the second
would never have been compared with the first. What MLflow does refuse is to change a parameter of a run. So the entries
are parameters of one run, that of the model's first version, which the registered model's tag `champion_journal` names:

    champion.0001            {"version": 1, "action": "gate", "by": "ada", "at": "2026-11-24T05:51:29Z", "why": "…"}
    champion.0001.settled    yes
    champion.0002            {"version": 2, …}

Of all who try to write entry 2, one does; the others read what it says and decide anew. The alias follows the last
entry: whoever finds an entry that is not settled, its writer having died, moves the alias on its behalf. An alias that
differs from a settled entry was moved by hand, in MLflow's page, and becomes an entry of its own.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final, Literal, TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.tracking.operations import cut

CHAMPION: Final = "champion"
JOURNAL_TAG = "champion_journal"
_MAX_REASON_LENGTH = 2000
_BUSY_RETRIES = 6
_SIGNS_OF_COMPANY = ("database is locked", "IntegrityError", "UniqueViolation", "deadlock", "Deadlock")
_MOVING_SECONDS = 0.5

Result = TypeVar("Result")


class Entry(BaseModel):
    """One change of the champion.

    Attributes:
        version: the champion from here on; None where the alias was deleted.
        action: how it became that.
        by: user name.
        at: UTC, ISO 8601.
        why: the gate's findings, or what a person said.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int | None
    action: Literal["gate", "promote", "rollback", "by_hand"]
    by: str
    at: str
    why: str = ""


@dataclass(frozen=True)
class Champion:
    """The champion as an observer found it.

    Attributes:
        version: None where there is none.
        number: of the journal's last entry, 0 where there is no entry; the next change must be entry `number + 1`.
    """

    version: int | None
    number: int


class ChampionJournal:
    """The journal of one registered model that has a version."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        self.name = name
        self._client = client

    def settle(self) -> Champion:
        """Make alias and journal agree, and return the champion."""
        was_late = False
        while True:
            entries, settled = self._read()
            alias = self._read_alias()
            if not entries:
                if alias is None:
                    return Champion(None, 0)
                self._try_write(1, _make_entry(alias, "by_hand", "the alias was set before there was a journal"))
                continue
            number, last = len(entries), entries[-1]
            if was_late or number not in settled:
                self._move_alias(last.version)
                # Others may have gone on meanwhile: then this move undid theirs, and theirs is done again.
                was_late = len(self._read()[0]) != number
                if not was_late:
                    self._mark_settled(number)
            elif alias == last.version:
                return Champion(alias, number)
            elif self._was_moved_by_hand(alias, number):
                self._try_write(number + 1, _make_entry(alias, "by_hand", "the alias was moved in MLflow"))

    def change(
        self, seen: Champion, version: int | None, action: Literal["gate", "promote", "rollback"], why: str
    ) -> bool:
        """Make `version` the champion if the champion is still the one that was `seen`; return whether it was."""
        if not self._try_write(seen.number + 1, _make_entry(version, action, why)):
            return False
        self.settle()
        return True

    def history(self) -> list[Entry]:
        """Return the entries, the oldest first."""
        return self._read()[0]

    def previous(self) -> int | None:
        """Return the version that a rollback goes to: the champion before the present one, None where there was none.

        Rolled back twice, it is the one before that: a rollback takes an entry away, as from a stack.
        """
        stack: list[int | None] = []
        for entry in self.history():
            if entry.action == "rollback":
                del stack[-1:]
            elif not stack or stack[-1] != entry.version:
                stack.append(entry.version)
        return stack[-2] if len(stack) > 1 else None

    def _read(self) -> tuple[list[Entry], set[int]]:
        """Return the entries by number, and the numbers of those whose alias was set."""
        params = self._client.get_run(self._run_id).data.params
        entries: list[Entry] = []
        while text := params.get(_key(len(entries) + 1)):
            entries.append(Entry.model_validate_json(text))
        settled = {number for number in range(1, len(entries) + 1) if f"{_key(number)}.settled" in params}
        return entries, settled

    def _try_write(self, number: int, entry: Entry) -> bool:
        """Write entry `number`, and return whether it is this one: what is stored counts, not what MLflow answered."""
        run_id, text = self._run_id, entry.model_dump_json()
        try:
            _insist(lambda: self._client.log_param(run_id, _key(number), text))
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":  # the parameter is there, with another value
                raise
        return bool(self._client.get_run(run_id).data.params.get(_key(number)) == text)

    def _mark_settled(self, number: int) -> None:
        _insist(lambda: self._client.log_param(self._run_id, f"{_key(number)}.settled", "yes"))

    def _move_alias(self, version: int | None) -> None:
        if version is None:
            _insist(lambda: self._client.delete_registered_model_alias(self.name, CHAMPION))
            return
        try:
            _insist(lambda: self._client.set_registered_model_alias(self.name, CHAMPION, str(version)))
        except MlflowException as error:
            raise TrackingError(f"{self.name} version {version} cannot become the champion: {error}") from error

    def _read_alias(self) -> int | None:
        version = self._client.get_registered_model(self.name).aliases.get(CHAMPION)
        return None if version is None else int(version)

    def _was_moved_by_hand(self, alias: int | None, number: int) -> bool:
        """Return whether the alias stays where it is: not for the moment in which somebody else moves it."""
        time.sleep(_MOVING_SECONDS)
        return len(self._read()[0]) == number and self._read_alias() == alias

    @cached_property
    def _run_id(self) -> str:
        """The run that holds the journal: everybody who looks for the first time finds the same one."""
        model = self._client.get_registered_model(self.name)
        if run_id := model.tags.get(JOURNAL_TAG):
            return self._require_active(run_id)
        versions = self._client.search_model_versions(f"name = '{self.name}'")
        if not versions:
            raise TrackingError(f"{self.name} has no version yet; `kedro run` registers one")
        first = min(versions, key=lambda version: int(version.version))
        run_id = self._require_active(str(first.run_id))
        _insist(lambda: self._client.set_registered_model_tag(self.name, JOURNAL_TAG, run_id))
        return run_id

    def _require_active(self, run_id: str) -> str:
        try:
            stage = self._client.get_run(run_id).info.lifecycle_stage
        except MlflowException as error:
            raise TrackingError(
                f"the MLflow run {run_id} holds the journal of {self.name}'s champions and cannot be read: {error}; "
                f"if it is gone for good, delete the registered model's tag {JOURNAL_TAG} to begin a new journal"
            ) from error
        if stage != "active":
            raise TrackingError(
                f"the MLflow run {run_id} holds the journal of {self.name}'s champions and was deleted; bring it "
                f"back with `mlflow runs restore --run-id {run_id}`"
            )
        return run_id


def _key(number: int) -> str:
    return f"{CHAMPION}.{number:04d}"


def _make_entry(version: int | None, action: Literal["gate", "promote", "rollback", "by_hand"], why: str) -> Entry:
    # Microseconds, so that no two entries have the same text, and each writer can tell its own.
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    return Entry(version=version, action=action, by=_user(), at=at, why=cut(why, _MAX_REASON_LENGTH))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _insist(call: Callable[[], Result]) -> Result:
    """Return what a call returns, tried again where another process wrote the same row in the same moment.

    A database of one file is then locked for a while; and what MLflow means as "insert or update" is two statements.
    """
    for attempt in range(_BUSY_RETRIES):
        try:
            return call()
        except MlflowException as error:
            if not any(sign in str(error) for sign in _SIGNS_OF_COMPANY) or attempt == _BUSY_RETRIES - 1:
                raise
            time.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")
