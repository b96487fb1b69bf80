"""Mixup and CutMix match the formulas of PaddleClas' batch operators."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from resnet50_pipeline.imaging.mixing import BatchTransformOp, Cutmix, Mixup, SampledOperators


def images(count: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 3, side, side)).astype(np.float32)


@given(count=st.integers(1, 9), seed=st.integers(0, 10**6), alpha=st.floats(0.1, 2))
@settings(deadline=None)
def test_mixup_matches_upstream(count: int, seed: int, alpha: float):
    """The result is `lam * imgs + (1 - lam) * imgs[idx]`, bit for bit. `idx` is drawn before `lam`."""
    draw = np.random.default_rng(seed)
    index, share = draw.permutation(count), draw.beta(alpha, alpha)
    plan = Mixup(alpha=alpha).plan(count, 16, np.random.default_rng(seed))
    mixed = images(count)
    plan.mix(mixed)
    assert plan.share == share
    np.testing.assert_array_equal(plan.partner, index)
    np.testing.assert_array_equal(mixed, share * images(count) + (1 - share) * images(count)[index])


@given(count=st.integers(1, 9), seed=st.integers(0, 10**6), alpha=st.floats(0.1, 2))
@settings(deadline=None)
def test_cutmix_matches_upstream(count: int, seed: int, alpha: float):
    """CutMix uses the same window, clipped at the border, and the same share as upstream."""
    draw = np.random.default_rng(seed)
    index, share = draw.permutation(count), draw.beta(alpha, alpha)
    side = 16
    cut = int(side * np.sqrt(1.0 - share))
    x, y = draw.integers(side), draw.integers(side)
    x1, x2 = np.clip(x - cut // 2, 0, side), np.clip(x + cut // 2, 0, side)
    y1, y2 = np.clip(y - cut // 2, 0, side), np.clip(y + cut // 2, 0, side)
    expected = images(count)
    expected[:, :, x1:x2, y1:y2] = expected[index, :, x1:x2, y1:y2]

    plan = Cutmix(alpha=alpha).plan(count, side, np.random.default_rng(seed))
    mixed = images(count)
    plan.mix(mixed)
    np.testing.assert_array_equal(mixed, expected)
    assert plan.share == pytest.approx(1 - (x2 - x1) * (y2 - y1) / side**2)


def test_operators_are_drawn_with_their_probabilities():
    """Of 2000 batches, OpSampler mixes 50% with Mixup and 30% with CutMix, and leaves the rest unchanged."""
    operator = SampledOperators.model_validate(
        {"MixupOperator": {"alpha": 0.2, "prob": 0.5}, "CutmixOperator": {"alpha": 1.0, "prob": 0.3}}
    )
    kinds: Counter[str] = Counter()
    for seed in range(2000):
        plan = operator.plan(4, 16, np.random.default_rng(seed))
        mixed = images(4)
        plan.mix(mixed)
        if plan.share == 1 and plan.window == (0, 0, 0, 0):
            np.testing.assert_array_equal(mixed, images(4))
            kinds["none"] += 1
        else:
            kinds["mixup" if plan.window is None else "cutmix"] += 1
    assert abs(kinds["mixup"] - 1000) < 80
    assert abs(kinds["cutmix"] - 600) < 80
    assert abs(kinds["none"] - 400) < 80


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"FmixOperator": {}}, "FmixOperator"),
        ({"MixupOperator": {"alpha": 0}}, "greater than 0"),
        ({"MixupOperator": {}, "CutmixOperator": {}}, r"OpSampler.* 2\b"),
        ({}, r"OpSampler.* 0\b"),
        ({"OpSampler": {}}, r"OpSampler .* 0\b"),
        ({"OpSampler": {"MixupOperator": {"prob": 0.6}, "CutmixOperator": {"prob": 0.6}}}, r"OpSampler .* 1\.2\b"),
        ({"OpSampler": {"MixupOperator": {"alpha": 1}}}, "prob"),
    ],
)
def test_invalid_operators_are_rejected(content: dict, named: str):
    """The error for an invalid OpSampler contains the operator, the number of operators or the total probability."""
    with pytest.raises(ValidationError, match=named):
        BatchTransformOp.model_validate(content)


def test_yaml_form_round_trips():
    """The YAML form of a mixing operator contains only the keys that were set."""
    content = {"OpSampler": {"MixupOperator": {"alpha": 0.2, "prob": 0.5}}}
    assert BatchTransformOp.model_validate(content).model_dump(mode="json") == content
