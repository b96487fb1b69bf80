"""Losses against the formulas, written out in NumPy."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from resnet50_pipeline.trainer.data import Mixed
from resnet50_pipeline.trainer.losses import build_loss
from resnet50_pipeline.training_config import CELossConfig, LossItem, MultiLabelLossConfig

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
    """-Σ target · log softmax, the mean over images; smoothing takes its share of mixed targets too."""
    expected = -(target(mixed, epsilon or 0.0) * log_softmax(LOGITS)).sum(axis=1).mean()
    assert value(LossItem(CELoss=CELossConfig(epsilon=epsilon)), mixed) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("epsilon", [None, 0.1])
@pytest.mark.parametrize("size_sum", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_binary_cross_entropy(mixed: bool, epsilon: float | None, size_sum: bool, threshold: float | None):
    """-(t log s + (1 - t) log(1 - s)), s the sigmoid, of each class; mean or sum over them, then the mean."""
    goal = target(mixed, epsilon or 0.0)
    if threshold is not None:
        goal = (goal > threshold).astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    costs = -(goal * np.log(sigmoid) + (1 - goal) * np.log(1 - sigmoid))
    expected = costs.sum(axis=1).mean() if size_sum else costs.mean()
    config = MultiLabelLossConfig(epsilon=epsilon, size_sum=size_sum, target_threshold=threshold)
    assert value(LossItem(MultiLabelLoss=config), mixed) == pytest.approx(expected, rel=1e-6)


def test_half_precision_logits_lose_nothing_more():
    """Logits that come in half precision are widened before anything is summed."""
    item = LossItem(CELoss=CELossConfig(epsilon=0.1))
    halves = LOGITS.astype(np.float16)
    assert value(item, mixed=False, logits=halves) == value(item, mixed=False, logits=halves.astype(np.float32))


def test_share_of_one_is_the_whole_image():
    """An image that nothing was mixed into costs what it would cost in a batch without mixing."""
    loss = build_loss((LossItem(CELoss=CELossConfig()),), CLASSES)
    logits, labels = paddle.to_tensor(LOGITS), paddle.to_tensor(LABELS)
    whole = Mixed(labels=paddle.to_tensor(OTHERS), share=paddle.ones([IMAGES]))
    assert float(loss(logits, labels, whole)) == pytest.approx(float(loss(logits, labels, None)), rel=1e-6)
