"""Each rule of the gate, at its edge, and what it says."""

from __future__ import annotations

import json
import math

import pytest

from resnet50_pipeline.parameters import GateParameters
from resnet50_pipeline.tracking.gate import VersionFacts, judge

GATE = GateParameters(min_top1=0.75, max_top1_drop=0.02)
CHAMPION = VersionFacts(3, 0.95, "sha256:da7a", "sha256:1157")


def decide(top1=0.95, champion=CHAMPION, gate=GATE, broken=(), export_passed=True, **digests: str):
    facts = {"data_digest": "sha256:da7a", "list_digest": "sha256:1157", **digests}
    return judge(
        VersionFacts(4, top1, **facts), champion, gate, broken_expectations=broken, export_passed=export_passed
    )


def broken_rules(decision) -> list[str]:
    return [check.rule for check in decision.checks if not check.passed]


@pytest.mark.parametrize(("top1", "passes"), [(0.75, True), (0.7499, False), (1.0, True)])
def test_the_lowest_top1_still_passes(top1, passes):
    """Without a champion only the threshold counts, and the threshold itself is enough."""
    decision = decide(top1, champion=None)
    assert (decision.passed, decision.compared_with) == (passes, None)
    assert broken_rules(decision) == ([] if passes else ["min_top1"])


@pytest.mark.parametrize(("top1", "passes"), [(0.93, True), (0.9299, False), (0.97, True)])
def test_the_largest_drop_still_passes(top1, passes):
    """A drop of exactly what is allowed passes, though 0.95 - 0.93 is a little more than 0.02 in floating point."""
    decision = decide(top1)
    assert (decision.passed, decision.compared_with) == (passes, 3)
    assert broken_rules(decision) == ([] if passes else ["max_top1_drop"])


@pytest.mark.parametrize(
    "digests", [{"data_digest": "sha256:07e4"}, {"list_digest": "sha256:07e4"}, {"data_digest": ""}]
)
@pytest.mark.parametrize("allowed", [False, True])
def test_a_champion_on_other_data_is_not_compared(digests, allowed):
    """Where data or list differ, or are not known, the parameter decides, and the finding says what happened."""
    gate = GATE.model_copy(update={"allow_other_data": allowed})
    decision = decide(0.80, gate=gate, **digests)
    assert decision.passed is allowed
    assert "version 3, was measured on other" in decision.checks[1].finding


def test_a_champion_without_figures_is_not_compared():
    """A version that something else registered has no top-1 to fall behind of, and is no reason to pass either."""
    assert broken_rules(decide(champion=VersionFacts(3, math.nan, "", ""))) == ["max_top1_drop"]


def test_all_rules_are_looked_at():
    """A version that breaks every rule is told all of them at once, and the tag can be read back."""
    decision = decide(0.5, broken=("images_decode",), export_passed=False)
    assert broken_rules(decision) == ["min_top1", "max_top1_drop", "data_is_valid", "export_agrees"]
    assert all(check.finding in decision.reasons for check in decision.checks)
    assert json.loads(decision.as_json())["checks"][2]["finding"].startswith(
        "the validation has blocking findings: images_decode"
    )


def test_a_version_that_passes_says_why():
    """The reasons of a version that passes are all its findings, with the values."""
    assert "top-1 96.00% is 1.00% above the champion, version 3 (95.00%)" in decide(0.96).reasons
