"""Moves the `candidate` and `champion` aliases of a registered model, and records each move."""

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
from resnet50_pipeline.processes.command_line import other_command
from resnet50_pipeline.tracking.limits import MAX_TAG_LENGTH, shorten
from resnet50_pipeline.tracking.registry.champion import CHAMPION, Champion, ChampionJournal, Entry
from resnet50_pipeline.tracking.registry.gate import Decision, PairedDifference, VersionFacts, judge
from resnet50_pipeline.tracking.registry.versions import explaining_errors
from resnet50_pipeline.tracking.runs import TrackedRun

CANDIDATE: Final = "candidate"
GATE_TAG, DECISION_TAG, REASONS_TAG = "gate", "gate_decision", "gate_reasons"
PASSED, FAILED = "passed", "failed"
# An attempt fails only if another version becomes the champion in the meantime.
_MAX_ATTEMPTS = 20


@dataclass(frozen=True)
class Outcome:
    """The result of the gate for a version.

    Attributes:
        alias: alias that the version received, or "" if the version failed.
        decision: the gate's decision, based on the champion at the time.
    """

    alias: Literal["champion", "candidate", ""]
    decision: Decision


@dataclass(frozen=True)
class Move:
    """A change of champion. None means no champion."""

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
    paired: PairedDifference | None = None,
) -> Outcome:
    """Judge a version with the gate, and record the decision in its tags. If it passes, set the configured alias.

    If another run replaces the champion in the meantime, the version is judged again, against the new champion.

    Args:
        run: run that registered the version.
        version: version number.
        model_registration: name of the model, alias and thresholds.
        broken_expectations: names of the blocking expectations that failed in validation.
        export_passed: whether the exported model reproduces the checkpoint's outputs.
        paired: comparison with an earlier version; see `gate.judge`.

    Raises:
        TrackingError: if the version has no tag with the gate's metric, or if the champion keeps changing.
    """
    name = model_registration.model_name
    with explaining_errors(run.store, name):
        client, _ = run.connect()
        return judge_version(
            client,
            version,
            model_registration,
            broken_expectations=broken_expectations,
            export_passed=export_passed,
            paired=paired,
        )


def judge_version(
    client: MlflowClient,
    version: int,
    model_registration: ModelRegistrationParameters,
    *,
    broken_expectations: Sequence[str],
    export_passed: bool,
    paired: PairedDifference | None = None,
) -> Outcome:
    """Like `pass_gate`, but with an MLflow client instead of an open run."""
    name = model_registration.model_name
    journal = ChampionJournal(client, name)
    metric = model_registration.gate.metric
    facts = _read_facts(client, name, version, metric)
    if math.isnan(facts.accuracy):
        raise TrackingError(
            f"{name} version {version} has no `{metric}` tag, which the gate requires; register the model again"
        )
    for _ in range(_MAX_ATTEMPTS):
        champion = journal.settle()
        rival = None
        if champion.version not in (None, version):
            rival = _read_facts(client, name, int(champion.version or 0), metric)
        decision = judge(
            facts,
            rival,
            model_registration.gate,
            broken_expectations=broken_expectations,
            export_passed=export_passed,
            paired=paired,
        )
        _record(client, name, version, decision)
        if not decision.passed:
            return Outcome("", decision)
        if model_registration.alias == CANDIDATE:
            _make_candidate(client, name, version)
            return Outcome(CANDIDATE, decision)
        if journal.change(champion, version, "gate", decision.reasons):
            return Outcome(CHAMPION, decision)
    raise TrackingError(
        f"the champion of {name} changed {_MAX_ATTEMPTS} times within seconds; run model_registration again"
    )


def promote_version(client: MlflowClient, name: str, version: int, *, despite_gate: bool, why: str = "") -> Move:
    """Make a version the champion at a user's request. If it already is the champion, record nothing.

    Args:
        client: client of the registry.
        name: name of the registered model.
        version: version number.
        despite_gate: whether to accept a version that failed the gate.
        why: comment for the champion journal.

    Raises:
        TrackingError: if the version does not exist, or failed the gate and `despite_gate` is false.
    """
    stored = _require_version(client, name, version)
    journal = ChampionJournal(client, name)
    current = journal.settle()
    if current.version == version:
        _remove_candidate(client, name, version)
        return Move(name, version, version)
    if stored.tags.get(GATE_TAG) == FAILED and not despite_gate:
        raise TrackingError(
            f"{name} version {version} failed the gate: {stored.tags.get(REASONS_TAG, 'no reason recorded')}; to "
            f"promote it anyway, run `{other_command('promote', str(version), '--despite-gate')}`"
        )
    move = _change(journal, current, version, "promote", why)
    _remove_candidate(client, name, version)
    return move


def roll_back(client: MlflowClient, name: str, why: str = "") -> Move:
    """Restore the previous champion.

    Raises:
        TrackingError: if there is no previous champion, or if the previous champion was deleted.
    """
    _require_model(client, name)
    journal = ChampionJournal(client, name)
    current = journal.settle()
    previous = journal.previous()
    if previous is None:
        command = other_command("promote", "VERSION")
        raise TrackingError(f"{name} has no previous champion; choose a version with `{command}`")
    _require_version(client, name, previous)
    return _change(journal, current, previous, "rollback", why)


def list_champions(client: MlflowClient, name: str) -> list[Entry]:
    """Return all changes of champion, oldest first.

    Raises:
        TrackingError: if the model does not exist.
    """
    _require_model(client, name)
    return ChampionJournal(client, name).view()


def _change(
    journal: ChampionJournal, current: Champion, version: int, action: Literal["promote", "rollback"], why: str
) -> Move:
    name = journal.name
    if current.version == version:
        raise TrackingError(f"{name} version {version} is already the champion")
    if not journal.change(current, version, action, why):
        now = journal.settle().version
        raise TrackingError(f"{name} version {now} has just become the champion; review it and decide again")
    return Move(name, current.version, version)


def _record(client: MlflowClient, name: str, version: int, decision: Decision) -> None:
    for key, value in (
        (GATE_TAG, PASSED if decision.passed else FAILED),
        (REASONS_TAG, decision.reasons),
        (DECISION_TAG, decision.as_json()),
    ):
        client.set_model_version_tag(name, str(version), key, shorten(value, MAX_TAG_LENGTH))


def _make_candidate(client: MlflowClient, name: str, version: int) -> None:
    """Set the candidate alias to `version`, unless a newer version already has this alias."""
    while True:
        current = int(client.get_registered_model(name).aliases.get(CANDIDATE, 0))
        if current >= version:
            return
        client.set_registered_model_alias(name, CANDIDATE, str(version))


def _remove_candidate(client: MlflowClient, name: str, version: int) -> None:
    """Remove the candidate alias if `version` has it."""
    # Databases return the number as an int, servers as a string.
    if str(client.get_registered_model(name).aliases.get(CANDIDATE)) == str(version):
        client.delete_registered_model_alias(name, CANDIDATE)


def _read_facts(client: MlflowClient, name: str, version: int, metric: str) -> VersionFacts:
    return VersionFacts.from_tags(version, _require_version(client, name, version).tags, metric)


def _require_version(client: MlflowClient, name: str, version: int) -> ModelVersion:
    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise TrackingError(f"there is no version {version} of {name}; the MLflow UI lists all versions") from error


def _require_model(client: MlflowClient, name: str) -> None:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise TrackingError(
            f"there is no registered model {name}; `{other_command('run')}` registers its first version"
        ) from error
