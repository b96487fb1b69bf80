"""Checks whether a registered version qualifies as candidate or champion."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from resnet50_pipeline.parameters import GateParameters
from resnet50_pipeline.processes.command_line import other_command

# A drop of exactly the allowed value must pass, but 0.95 - 0.93 > 0.02 in floating point.
_ROUNDING = 1e-9
_NAMES = {"top1": "top-1", "balanced_accuracy": "balanced accuracy"}


@dataclass(frozen=True)
class VersionFacts:
    """Properties of a version that the gate checks.

    Attributes:
        version: version number in the registry.
        accuracy: the gate's metric on the evaluated list, 0..1, or NaN if unknown.
        data_digest: digest of the dataset used for training and evaluation, or "" if unknown.
        list_digest: digest of the evaluated list, or "" if unknown.
    """

    version: int
    accuracy: float
    data_digest: str
    list_digest: str

    @classmethod
    def from_tags(cls, version: int, tags: Mapping[str, str], metric: str) -> VersionFacts:
        """Return the properties stored in a version's tags, with `metric` as the accuracy."""
        try:
            accuracy = float(tags[metric])
        except (KeyError, ValueError):  # another program registered this version
            accuracy = math.nan
        return cls(version, accuracy, tags.get("data_digest", ""), tags.get("list_digest", ""))


@dataclass(frozen=True)
class PairedDifference:
    """The result of comparing a version with an earlier one on the images that both evaluations contain.

    Attributes:
        version: version number of the earlier version.
        top1: top-1 accuracy minus the accuracy of the earlier version, -1..1.
        images: number of images that both evaluations contain, with the same content.
    """

    version: int
    top1: float
    images: int

    @classmethod
    def from_comparison(cls, comparison: Mapping[str, Any], model: str) -> PairedDifference | None:
        """Return the difference from a comparison made by the evaluation stage, or None if it cannot be used.

        A comparison can be used only if the other model is a version of the registered model `model`, because version
        numbers are not unique across models, and if the images are known to have the same content.
        """
        if comparison.get("rival_model") != model or not comparison["is_same_content"]:
            return None
        return cls(comparison["rival_version"], comparison["top1"]["difference"], comparison["images"])


@dataclass(frozen=True)
class Check:
    """The result of one rule of the gate.

    Attributes:
        rule: `min_accuracy`, `max_accuracy_drop`, `data_is_valid` or `export_agrees`.
        passed: whether the version passes the rule.
        finding: a sentence that includes the values.
    """

    rule: str
    passed: bool
    finding: str


@dataclass(frozen=True)
class Decision:
    """The gate's decision on a version.

    Attributes:
        passed: whether the version passes every rule.
        compared_with: version number of the champion at the time, or None.
        checks: results of all rules.
    """

    passed: bool
    compared_with: int | None
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> str:
        """The findings of the failed rules, or all findings if no rule failed."""
        return "; ".join(check.finding for check in self.checks if check.passed is self.passed)

    def as_json(self) -> str:
        """Return the decision as JSON text, to be stored in a tag of the version."""
        return json.dumps(asdict(self), ensure_ascii=False)


def judge(
    candidate: VersionFacts,
    champion: VersionFacts | None,
    gate: GateParameters,
    *,
    broken_expectations: Sequence[str],
    export_passed: bool,
    paired: PairedDifference | None = None,
) -> Decision:
    """Check a version against every rule, even if one has already failed.

    Args:
        candidate: the version to check.
        champion: the current champion, or None if there is none.
        gate: thresholds.
        broken_expectations: names of the blocking expectations that failed in validation.
        export_passed: whether the exported model reproduces the checkpoint's outputs.
        paired: comparison with an earlier version, used if the champion was evaluated on different data.
    """
    checks = (
        _check_minimum(candidate, gate),
        _check_drop(candidate, champion, gate, paired),
        _check_data(broken_expectations),
        Check(
            "export_agrees",
            export_passed,
            "the exported model agrees with the checkpoint"
            if export_passed
            else "the exported model does not agree with the checkpoint (see export_check.json)",
        ),
    )
    compared_with = None if champion is None else champion.version
    return Decision(all(check.passed for check in checks), compared_with, checks)


def _check_minimum(candidate: VersionFacts, gate: GateParameters) -> Check:
    passed = candidate.accuracy >= gate.min_accuracy - _ROUNDING
    relation = "reaches" if passed else "is below"
    return Check(
        "min_accuracy",
        passed,
        f"{_NAMES[gate.metric]} {candidate.accuracy:.2%} {relation} gate.min_accuracy ({gate.min_accuracy:.2%})",
    )


def _check_drop(
    candidate: VersionFacts, champion: VersionFacts | None, gate: GateParameters, paired: PairedDifference | None
) -> Check:
    rule = "max_accuracy_drop"
    if champion is None:
        return Check(rule, True, "there is no champion to compare with")
    named = f"the champion, version {champion.version}"
    other = _name_other_data(candidate, champion)
    if other and paired is not None and paired.version == champion.version and gate.metric == "top1":
        return _check_paired_drop(named, other, paired, gate)
    if other:
        consequence = (
            "which gate.allow_other_data permits"
            if gate.allow_other_data
            else f"so the two cannot be compared: evaluate the champion on this data, or override the "
            f"gate with `{other_command('promote', str(candidate.version), '--despite-gate')}`"
        )
        return Check(rule, gate.allow_other_data, f"{named}, was evaluated on different {other}, {consequence}")
    drop = champion.accuracy - candidate.accuracy
    passed = drop <= gate.max_accuracy_drop + _ROUNDING
    relation = f"is {_points(abs(drop))} {'below' if drop > 0 else 'above'}" if drop else "equals"
    return Check(
        rule,
        passed,
        f"{_NAMES[gate.metric]} {candidate.accuracy:.2%} {relation} {named} ({champion.accuracy:.2%}); "
        f"gate.max_accuracy_drop {'allows' if passed else 'allows only'} a drop of {_points(gate.max_accuracy_drop)}",
    )


def _check_paired_drop(named: str, other: str, paired: PairedDifference, gate: GateParameters) -> Check:
    passed = -paired.top1 <= gate.max_accuracy_drop + _ROUNDING
    relation = f"is {_points(abs(paired.top1))} {'below' if paired.top1 < 0 else 'above'}" if paired.top1 else "equals"
    return Check(
        "max_accuracy_drop",
        passed,
        f"top-1 {relation} {named}, on the {paired.images:,} images that both evaluations contain (the {other} "
        f"{'differ' if other == 'images' else 'differs'}); gate.max_accuracy_drop "
        f"{'allows' if passed else 'allows only'} a drop of {_points(gate.max_accuracy_drop)}",
    )


def _points(difference: float) -> str:
    """Return a difference of two accuracies, such as `9.50 points`. A percent sign would be ambiguous."""
    return f"{100 * difference:.2f} points"


def _check_data(broken_expectations: Sequence[str]) -> Check:
    if not broken_expectations:
        return Check("data_is_valid", True, "validation has no blocking findings")
    return Check(
        "data_is_valid",
        False,
        f"validation has blocking findings: {', '.join(broken_expectations)} (see Data Docs)",
    )


def _name_other_data(candidate: VersionFacts, champion: VersionFacts) -> str:
    """Return what differs, data or images, or "" if neither does. Unknown data counts as different."""
    if math.isnan(champion.accuracy):
        return "or unknown data"
    for digest, what in (("data_digest", "data"), ("list_digest", "images")):
        mine, theirs = getattr(candidate, digest), getattr(champion, digest)
        if mine != theirs or not mine:
            return what
    return ""
