"""Aliases of a registered model: given by the gate, moved by a person, taken back; each move is recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import ModelRegistrationParameters
from resnet50_pipeline.tracking.champion import CHAMPION, Champion, ChampionJournal, Entry
from resnet50_pipeline.tracking.gate import Decision, VersionFacts, judge
from resnet50_pipeline.tracking.operations import MAX_TAG_LENGTH, cut
from resnet50_pipeline.tracking.registry import explaining_refusals
from resnet50_pipeline.tracking.runs import TrackedRun

CANDIDATE: Final = "candidate"
GATE_TAG, DECISION_TAG, REASONS_TAG = "gate", "gate_decision", "gate_reasons"
PASSED, FAILED = "passed", "failed"
# Each lost attempt means that another version became the champion meanwhile.
_MAX_ATTEMPTS = 20


@dataclass(frozen=True)
class Outcome:
    """What became of a version at the gate.

    Attributes:
        alias: that it was given; "" where it failed.
        decision: of the gate, against the champion that it replaced or stayed behind.
    """

    alias: Literal["champion", "candidate", ""]
    decision: Decision


@dataclass(frozen=True)
class Move:
    """A champion that took the place of another; None for no champion."""

    name: str
    previous: int | None
    champion: int | None


def pass_gate(
    run: TrackedRun,
    version: int,
    model_registration: ModelRegistrationParameters,
    *,
    broken_expectations: Sequence[str],
    export_passed: bool,
) -> Outcome:
    """Judge a version, give it the alias of `model_registration` if it passes, and record the decision in its tags.

    A version that passes against a champion which another run replaces in that very moment is judged again, against
    the new one.

    Raises:
        TrackingError: the version has no facts to be judged by, or the champion changes all the time.
    """
    name = model_registration.model_name
    with explaining_refusals(run.store, name):
        client, _ = run.connect()
        return judge_version(
            client, version, model_registration, broken_expectations=broken_expectations, export_passed=export_passed
        )


def judge_version(
    client: MlflowClient,
    version: int,
    model_registration: ModelRegistrationParameters,
    *,
    broken_expectations: Sequence[str],
    export_passed: bool,
) -> Outcome:
    """As `pass_gate`, for a client."""
    name = model_registration.model_name
    journal = ChampionJournal(client, name)
    facts = _read_facts(client, name, version)
    if math.isnan(facts.top1):
        raise TrackingError(f"{name} version {version} has no tag top1, so the gate cannot judge it; register it anew")
    for _ in range(_MAX_ATTEMPTS):
        champion = journal.settle()
        rival = None if champion.version in (None, version) else _read_facts(client, name, int(champion.version or 0))
        decision = judge(
            facts,
            rival,
            model_registration.gate,
            broken_expectations=broken_expectations,
            export_passed=export_passed,
        )
        _record(client, name, version, decision)
        if not decision.passed:
            return Outcome("", decision)
        if model_registration.alias == CANDIDATE:
            _make_candidate(client, name, version)
            return Outcome(CANDIDATE, decision)
        if journal.change(champion, version, "gate", decision.reasons):
            return Outcome(CHAMPION, decision)
    raise TrackingError(f"{name} had {_MAX_ATTEMPTS} champions within seconds; run model_registration again")


def promote_version(client: MlflowClient, name: str, version: int, *, despite_gate: bool, why: str = "") -> Move:
    """Make a version the champion because a person says so.

    Raises:
        TrackingError: there is no such version, or the gate refused it and `despite_gate` is not set.
    """
    stored = _require_version(client, name, version)
    if stored.tags.get(GATE_TAG) == FAILED and not despite_gate:
        raise TrackingError(
            f"{name} version {version} did not pass the gate: {stored.tags.get(REASONS_TAG, 'no reason is recorded')}; "
            f"to promote it all the same: kedro promote {version} --despite-gate"
        )
    journal = ChampionJournal(client, name)
    move = _change(journal, journal.settle(), version, "promote", why)
    # A database gives the number as such, a server as text.
    if str(client.get_registered_model(name).aliases.get(CANDIDATE)) == str(version):
        client.delete_registered_model_alias(name, CANDIDATE)
    return move


def roll_back(client: MlflowClient, name: str, why: str = "") -> Move:
    """Make the version before the present champion the champion again.

    Raises:
        TrackingError: there was no champion before, or its version was deleted.
    """
    _require_model(client, name)
    journal = ChampionJournal(client, name)
    seen = journal.settle()
    previous = journal.previous()
    if previous is None:
        raise TrackingError(f"{name} has had no champion before the present one; kedro promote VERSION names another")
    _require_version(client, name, previous)
    return _change(journal, seen, previous, "rollback", why)


def list_champions(client: MlflowClient, name: str) -> list[Entry]:
    """Return who was the champion, the oldest first.

    Raises:
        TrackingError: there is no such model.
    """
    _require_model(client, name)
    journal = ChampionJournal(client, name)
    journal.settle()
    return journal.history()


def _change(
    journal: ChampionJournal, seen: Champion, version: int, action: Literal["promote", "rollback"], why: str
) -> Move:
    name = journal.name
    if seen.version == version:
        raise TrackingError(f"{name} version {version} is the champion already")
    if not journal.change(seen, version, action, why):
        now = journal.settle().version
        raise TrackingError(f"{name} version {now} became the champion in this very moment; look at it, decide again")
    return Move(name, seen.version, version)


def _record(client: MlflowClient, name: str, version: int, decision: Decision) -> None:
    for key, value in (
        (GATE_TAG, PASSED if decision.passed else FAILED),
        (REASONS_TAG, decision.reasons),
        (DECISION_TAG, decision.as_json()),
    ):
        client.set_model_version_tag(name, str(version), key, cut(value, MAX_TAG_LENGTH))


def _make_candidate(client: MlflowClient, name: str, version: int) -> None:
    """Move the alias to the newest version that passed: never back, whoever comes last."""
    while True:
        current = int(client.get_registered_model(name).aliases.get(CANDIDATE, 0))
        if current >= version:
            return
        client.set_registered_model_alias(name, CANDIDATE, str(version))


def _read_facts(client: MlflowClient, name: str, version: int) -> VersionFacts:
    return VersionFacts.from_tags(version, _require_version(client, name, version).tags)


def _require_version(client: MlflowClient, name: str, version: int) -> ModelVersion:
    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise TrackingError(f"there is no version {version} of {name}; `make ui` shows those that are there") from error


def _require_model(client: MlflowClient, name: str) -> None:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise TrackingError(f"there is no registered model {name}; `kedro run` registers its first version") from error
