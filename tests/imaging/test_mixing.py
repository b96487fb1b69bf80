"""Mixing blends or cuts as PaddleClas' batch operators do, and says what each label is worth."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from resnet50_pipeline.imaging.mixing import BatchTransformOp, Cutmix, Mixup, SampledOperators


def images(count: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 3, side, side)).astype(np.float32)


@given(count=st.integers(1, 9), seed=st.integers(0, 10**6), alpha=st.floats(0.1, 2))
def test_mixup_is_upstreams_formula(count: int, seed: int, alpha: float):
    """`lam * imgs + (1 - lam) * imgs[idx]`, bit for bit, with upstream's order of draws: permutation, then share."""
    draw = np.random.default_rng(seed)
    index, share = draw.permutation(count), draw.beta(alpha, alpha)
    plan = Mixup(alpha=alpha).plan(count, 16, np.random.default_rng(seed))
    mixed = images(count)
    plan.mix(mixed)
    assert plan.share == share
    np.testing.assert_array_equal(plan.partner, index)
    np.testing.assert_array_equal(mixed, share * images(count) + (1 - share) * images(count)[index])


@given(count=st.integers(1, 9), seed=st.integers(0, 10**6), alpha=st.floats(0.1, 2))
def test_cutmix_is_upstreams_formula(count: int, seed: int, alpha: float):
    """The rectangle, cut off at the border, and the share of the area that is left are upstream's."""
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


def test_operators_come_as_often_as_asked():
    """Of 2000 batches OpSampler mixes 50 % by mixup, 30 % by cutmix, and leaves the rest as they are."""
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
        ({"MixupOperator": {}, "CutmixOperator": {}}, "2 are given"),
        ({}, "0 are given"),
        ({"OpSampler": {}}, "at most 1 together"),
        ({"OpSampler": {"MixupOperator": {"prob": 0.6}, "CutmixOperator": {"prob": 0.6}}}, "1.2 are given"),
        ({"OpSampler": {"MixupOperator": {"alpha": 1}}}, "prob"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(content: dict, named: str):
    """Unknown operators, several of them, and probabilities that are missing or too many are named."""
    with pytest.raises(ValidationError, match=named):
        BatchTransformOp.model_validate(content)


def test_form_round_trips():
    """The YAML form reads back as the same operator and holds no key that was not given."""
    content = {"OpSampler": {"MixupOperator": {"alpha": 0.2, "prob": 0.5}}}
    assert BatchTransformOp.model_validate(content).model_dump(mode="json") == content
