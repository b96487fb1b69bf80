"""Losses match NumPy implementations of their formulas."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from resnet50_pipeline.recipe.losses import CELossConfig, LossItem, MultiLabelLossConfig
from resnet50_pipeline.trainer.data.batches import Mixed
from resnet50_pipeline.trainer.optimization.losses import build_loss

CLASSES, IMAGES = 7, 5
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(IMAGES, CLASSES)).astype(np.float32) * 3
LABELS, OTHERS = RANDOM.integers(0, CLASSES, IMAGES), RANDOM.integers(0, CLASSES, IMAGES)
SHARE = RANDOM.random(IMAGES).astype(np.float32)


def value(item: LossItem, mixed: bool, logits: np.ndarray = LOGITS) -> float:
    other = Mixed(labels=paddle.to_tensor(OTHERS), share=paddle.to_tensor(SHARE)) if mixed else None
    loss = build_loss((item,), CLASSES)(paddle.to_tensor(logits), paddle.to_tensor(LABELS), other)
    assert loss.shape == []
    assert loss.dtype == paddle.float32
    return float(loss)


def target(mixed: bool, epsilon: float) -> np.ndarray:
    one_hot = np.eye(CLASSES)
    share = SHARE[:, None] if mixed else 1.0
    pure = share * one_hot[LABELS] + (1 - share) * one_hot[OTHERS]
    return (1 - epsilon) * pure + epsilon / CLASSES


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("epsilon", [None, 0.1])
def test_cross_entropy(mixed: bool, epsilon: float | None):
    """The loss is the mean of -Σ target · log softmax. Label smoothing applies to mixed targets too."""
    expected = -(target(mixed, epsilon or 0.0) * log_softmax(LOGITS)).sum(axis=1).mean()
    assert value(LossItem(CELoss=CELossConfig(epsilon=epsilon)), mixed) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("epsilon", [None, 0.1])
@pytest.mark.parametrize("size_sum", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_binary_cross_entropy(mixed: bool, epsilon: float | None, size_sum: bool, threshold: float | None):
    """-(t log s + (1 - t) log(1 - s)) with s = sigmoid is averaged or summed over classes, and averaged over images."""
    goal = target(mixed, epsilon or 0.0)
    if threshold is not None:
        goal = (goal > threshold).astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    costs = -(goal * np.log(sigmoid) + (1 - goal) * np.log(1 - sigmoid))
    expected = costs.sum(axis=1).mean() if size_sum else costs.mean()
    config = MultiLabelLossConfig(epsilon=epsilon, size_sum=size_sum, target_threshold=threshold)
    assert value(LossItem(MultiLabelLoss=config), mixed) == pytest.approx(expected, rel=1e-6)


def test_half_precision_logits_are_summed_in_float32():
    """float16 logits give exactly the same loss as the same values in float32."""
    item = LossItem(CELoss=CELossConfig(epsilon=0.1))
    halves = LOGITS.astype(np.float16)
    assert value(item, mixed=False, logits=halves) == value(item, mixed=False, logits=halves.astype(np.float32))


def test_share_of_one_equals_no_mixing():
    """With a share of 1, the second label does not affect the loss."""
    loss = build_loss((LossItem(CELoss=CELossConfig()),), CLASSES)
    logits, labels = paddle.to_tensor(LOGITS), paddle.to_tensor(LABELS)
    whole = Mixed(labels=paddle.to_tensor(OTHERS), share=paddle.ones([IMAGES]))
    assert float(loss(logits, labels, whole)) == pytest.approx(float(loss(logits, labels, None)), rel=1e-6)
