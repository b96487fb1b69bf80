"""The gate of the registry: whether a version may be given an alias, rule by rule, with the values found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from resnet50_pipeline.parameters import GateParameters

# Both are given with four digits, so a drop of exactly what is allowed, as 0.95 - 0.93, must not fail by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class VersionFacts:
    """What the gate looks at.

    Attributes:
        version: number in the registry.
        top1: fraction 0..1 of the evaluated list; NaN where it is not known.
        data_digest: of the data set that it was trained and evaluated on; "" where it is not known.
        list_digest: of the list that it was evaluated on; "" where it is not known.
    """

    version: int
    top1: float
    data_digest: str
    list_digest: str

    @classmethod
    def from_tags(cls, version: int, tags: Mapping[str, str]) -> VersionFacts:
        """Return what a version's tags say."""
        try:
            top1 = float(tags["top1"])
        except (KeyError, ValueError):  # a version that something else registered
            top1 = math.nan
        return cls(version, top1, tags.get("data_digest", ""), tags.get("list_digest", ""))


@dataclass(frozen=True)
class Check:
    """One rule of the gate, and whether a version keeps it.

    Attributes:
        rule: `min_top1`, `max_top1_drop`, `data_is_valid` or `export_agrees`.
        passed: whether it is kept.
        finding: the values, in words.
    """

    rule: str
    passed: bool
    finding: str


@dataclass(frozen=True)
class Decision:
    """What the gate made of a version.

    Attributes:
        passed: every rule is kept.
        compared_with: version of the champion at that moment; None where there was none.
        checks: rule by rule.
    """

    passed: bool
    compared_with: int | None
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> str:
        """The findings that count: of the broken rules, or of all where none is broken."""
        counting = [check for check in self.checks if check.passed is self.passed]
        return "; ".join(check.finding for check in counting)

    def as_json(self) -> str:
        """Return everything, for a tag of the version."""
        return json.dumps(asdict(self), ensure_ascii=False)


def judge(
    candidate: VersionFacts,
    champion: VersionFacts | None,
    gate: GateParameters,
    *,
    broken_expectations: Sequence[str],
    export_passed: bool,
) -> Decision:
    """Return whether a version keeps every rule; all are looked at, whatever the first says.

    Args:
        candidate: the version.
        champion: the present one; None where there is none, which no version can fall behind.
        gate: the thresholds.
        broken_expectations: names of the blocking expectations of the validation that do not hold.
        export_passed: the exported model gives the checkpoint's outputs.
    """
    checks = (
        _check_min_top1(candidate, gate),
        _check_drop(candidate, champion, gate),
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


def _check_min_top1(candidate: VersionFacts, gate: GateParameters) -> Check:
    passed = candidate.top1 >= gate.min_top1 - _ROUNDING
    relation = "reaches" if passed else "is below"
    return Check("min_top1", passed, f"top-1 {candidate.top1:.2%} {relation} the {gate.min_top1:.2%} of gate.min_top1")


def _check_drop(candidate: VersionFacts, champion: VersionFacts | None, gate: GateParameters) -> Check:
    rule = "max_top1_drop"
    if champion is None:
        return Check(rule, True, "there is no champion to compare it with")
    named = f"the champion, version {champion.version}"
    other = _name_other_data(candidate, champion)
    if other:
        consequence = (
            "which gate.allow_other_data lets pass"
            if gate.allow_other_data
            else f"so they cannot be compared: evaluate that one on this data, or decide with "
            f"`kedro promote {candidate.version} --despite-gate`"
        )
        return Check(rule, gate.allow_other_data, f"{named}, was measured on other {other}, {consequence}")
    drop = champion.top1 - candidate.top1
    passed = drop <= gate.max_top1_drop + _ROUNDING
    relation = f"{abs(drop):.2%} {'below' if drop > 0 else 'above'}" if drop else "exactly"
    return Check(
        rule,
        passed,
        f"top-1 {candidate.top1:.2%} is {relation} {named} ({champion.top1:.2%}); "
        f"gate.max_top1_drop {'allows' if passed else 'allows only'} {gate.max_top1_drop:.2%} below",
    )


def _check_data(broken_expectations: Sequence[str]) -> Check:
    if not broken_expectations:
        return Check("data_is_valid", True, "no blocking expectation of the validation is broken")
    return Check(
        "data_is_valid",
        False,
        f"the validation has blocking findings: {', '.join(broken_expectations)} (see Data Docs)",
    )


def _name_other_data(candidate: VersionFacts, champion: VersionFacts) -> str:
    """Return in what the two were measured on different data: "" for nothing; what is not known is not the same."""
    if math.isnan(champion.top1):
        return "data, if at all"
    for digest, what in (("data_digest", "data"), ("list_digest", "images")):
        mine, theirs = getattr(candidate, digest), getattr(champion, digest)
        if mine != theirs or not mine:
            return what
    return ""
