"""Each gate rule is checked at its threshold, and its finding contains the values."""

from __future__ import annotations

import json
import math

import pytest

from resnet50_pipeline.parameters import GateParameters
from resnet50_pipeline.tracking.registry.gate import PairedDifference, VersionFacts, judge

GATE = GateParameters(min_accuracy=0.75, max_accuracy_drop=0.02)
CHAMPION = VersionFacts(3, 0.95, "sha256:da7a", "sha256:1157")


def decide(top1=0.95, champion=CHAMPION, gate=GATE, broken=(), export_passed=True, *, paired=None, **digests: str):
    facts = {"data_digest": "sha256:da7a", "list_digest": "sha256:1157", **digests}
    return judge(
        VersionFacts(4, top1, **facts),
        champion,
        gate,
        broken_expectations=broken,
        export_passed=export_passed,
        paired=paired,
    )


def broken_rules(decision) -> list[str]:
    return [check.rule for check in decision.checks if not check.passed]


@pytest.mark.parametrize(("top1", "passes"), [(0.75, True), (0.7499, False), (1.0, True)])
def test_the_minimum_top1_passes(top1, passes):
    """Without a champion, only min_accuracy matters, and an accuracy equal to min_accuracy passes."""
    decision = decide(top1, champion=None)
    assert (decision.passed, decision.compared_with) == (passes, None)
    assert broken_rules(decision) == ([] if passes else ["min_accuracy"])


@pytest.mark.parametrize(("top1", "passes"), [(0.93, True), (0.9299, False), (0.97, True)])
def test_the_maximum_drop_passes(top1, passes):
    """A drop of exactly the allowed value passes, although 0.95 - 0.93 exceeds 0.02 in floating point."""
    decision = decide(top1)
    assert (decision.passed, decision.compared_with) == (passes, 3)
    assert broken_rules(decision) == ([] if passes else ["max_accuracy_drop"])


@pytest.mark.parametrize(
    "digests", [{"data_digest": "sha256:07e4"}, {"list_digest": "sha256:07e4"}, {"data_digest": ""}]
)
@pytest.mark.parametrize("allowed", [False, True])
def test_a_champion_with_different_data_is_not_compared(digests, allowed):
    """If the data or list differs or is unknown, `allow_other_data` determines the outcome.

    The finding identifies the champion.
    """
    gate = GATE.model_copy(update={"allow_other_data": allowed})
    decision = decide(0.80, gate=gate, **digests)
    assert decision.passed is allowed
    assert "version 3" in decision.checks[1].finding


COMPARISON = {
    "rival_model": "digits",
    "rival_version": 3,
    "is_same_content": True,
    "images": 97,
    "top1": {"difference": -0.02},
}


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, True),
        ({"top1": {"difference": -0.0201}}, False),
        ({"top1": {"difference": 0.1}}, True),
        ({"rival_version": 2}, False),
        ({"rival_model": None, "rival_version": None}, False),
        ({"rival_model": "flowers"}, False),
        ({"is_same_content": False}, False),
    ],
)
def test_a_paired_comparison_replaces_equal_data(changes, passes):
    """On other data, only a comparison with the champion on images of the same content counts, with the same bound."""
    paired = PairedDifference.from_comparison({**COMPARISON, **changes}, "digits")
    decision = decide(0.80, paired=paired, data_digest="sha256:07e4")
    assert decision.passed is passes
    is_used = changes.keys() <= {"top1"}
    assert ("on the 97 images that both evaluations contain" in decision.checks[1].finding) is is_used


def test_a_paired_comparison_is_ignored_for_balanced_accuracy_and_equal_data():
    """The comparison contains only top-1, and equal data needs no comparison."""
    paired = PairedDifference.from_comparison({**COMPARISON, "top1": {"difference": -0.5}}, "digits")
    assert decide(0.95, paired=paired).passed
    gate = GATE.model_copy(update={"metric": "balanced_accuracy"})
    assert not decide(0.95, gate=gate, paired=paired, data_digest="sha256:07e4").passed


def test_no_comparison_is_no_paired_difference():
    """Without a rival, the gate has no comparison."""
    assert PairedDifference.from_comparison({"rival": None, "reason": ""}, "digits") is None


def test_a_champion_without_top1_is_not_compared():
    """A champion registered by another program has no top-1 accuracy, so the rule fails."""
    assert broken_rules(decide(champion=VersionFacts(3, math.nan, "", ""))) == ["max_accuracy_drop"]


def test_all_rules_are_checked():
    """The decision on a version that fails every rule lists all of them, and its JSON contains the findings."""
    decision = decide(0.5, broken=("images_decode",), export_passed=False)
    assert broken_rules(decision) == ["min_accuracy", "max_accuracy_drop", "data_is_valid", "export_agrees"]
    assert all(check.finding in decision.reasons for check in decision.checks)
    assert "images_decode" in json.loads(decision.as_json())["checks"][2]["finding"]


def test_a_passing_decision_has_reasons():
    """The reasons for a passing decision are all findings, with both accuracies and the difference."""
    reasons = decide(0.96).reasons
    assert all(value in reasons for value in ("96.00%", "1.00 points above", "version 3", "95.00%"))


@pytest.mark.parametrize(("metric", "passes"), [("top1", True), ("balanced_accuracy", False)])
def test_the_configured_metric_is_compared(metric, passes):
    """The gate compares the accuracy set by `metric`, and the findings name it."""
    tags = {"top1": "0.9", "balanced_accuracy": "0.7", "data_digest": "sha256:da7a", "list_digest": "sha256:1157"}
    gate = GATE.model_copy(update={"metric": metric})
    facts = VersionFacts.from_tags(4, tags, metric)
    decision = judge(facts, None, gate, broken_expectations=(), export_passed=True)
    assert decision.passed is passes
    assert f"{100 * facts.accuracy:.2f}%" in decision.checks[0].finding
    assert ("balanced accuracy" in decision.checks[0].finding) is (metric == "balanced_accuracy")
