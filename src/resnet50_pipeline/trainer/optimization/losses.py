"""Builds PaddleClas' loss functions, for plain and mixed images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's own abbreviation
from numpy.typing import NDArray

from resnet50_pipeline.recipe.losses import CELossConfig, LossItem, MultiLabelLossConfig
from resnet50_pipeline.trainer.data.batches import Mixed

Loss = Callable[[paddle.Tensor, paddle.Tensor, Mixed | None], paddle.Tensor]


def build_loss(items: tuple[LossItem], class_num: int, class_weights: NDArray[np.float32] | None = None) -> Loss:
    """Return the loss function: (logits [N, class_num], labels int64 [N], `Mixed` or None) → float32 scalar.

    The result is the mean over the batch. The mean is computed in float32, regardless of the dtype of the logits.

    Args:
        items: `Loss.Train` of the configuration, which has exactly one item.
        class_num: number of classes.
        class_weights: float32 [class_num], weight of each class in the cross-entropy, or None for equal weights.
    """
    (item,) = items
    if item.MultiLabelLoss is not None:
        return _binary_cross_entropy(item.MultiLabelLoss, class_num)
    assert item.CELoss is not None, "an item holds exactly one loss"  # noqa: S101 - LossItem checks it
    if class_weights is not None:
        return _weighted_cross_entropy(item.CELoss, class_num, class_weights)
    return _cross_entropy(item.CELoss, class_num)


def _cross_entropy(config: CELossConfig, class_num: int) -> Loss:
    """Return the loss function of `ppcls/loss/celoss.py`, with one difference.

    If `epsilon` is not set, upstream applies softmax to the target vector, which makes a one-hot vector for 1000
    classes nearly uniform. This function leaves the target unchanged. All of upstream's recipes with mixed images set
    `epsilon`, so this difference does not affect them.
    """

    def loss(logits: paddle.Tensor, labels: paddle.Tensor, mixed: Mixed | None = None) -> paddle.Tensor:
        logits = logits.astype("float32")
        # Avoid reduction="mean". In Paddle 2.6, it copies a value from the device, which makes the host wait.
        if config.epsilon is None and mixed is None:
            return F.cross_entropy(logits, labels.reshape([-1, 1]), reduction="none").mean()
        target = _target(labels, mixed, class_num, config.epsilon)
        return F.cross_entropy(logits, target, soft_label=True, reduction="none").mean()

    return loss


def _weighted_cross_entropy(config: CELossConfig, class_num: int, class_weights: NDArray[np.float32]) -> Loss:
    """Return the cross-entropy, which multiplies each image's loss by the weight of its class.

    The mean divides by the number of images, not by the sum of their weights, so that an image's gradient does not
    depend on the other images on its rank. In a mixed image, each of the two labels has the weight of its class.
    """
    weights = paddle.to_tensor(class_weights)

    def costs(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        target = _target(labels, None, class_num, config.epsilon)
        plain = F.cross_entropy(logits, target, soft_label=True, reduction="none").reshape([-1])
        return paddle.gather(weights, labels) * plain

    def loss(logits: paddle.Tensor, labels: paddle.Tensor, mixed: Mixed | None = None) -> paddle.Tensor:
        logits = logits.astype("float32")
        if mixed is None:
            return costs(logits, labels).mean()
        return (mixed.share * costs(logits, labels) + (1.0 - mixed.share) * costs(logits, mixed.labels)).mean()

    return loss


def _binary_cross_entropy(config: MultiLabelLossConfig, class_num: int) -> Loss:
    """Return the loss function of `ppcls/loss/multilabelloss.py`, but for labels that are class ids.

    Unlike upstream, it also supports the target threshold used by procedures A1 to A3 in "ResNet strikes back". As in
    `timm.loss.BinaryCrossEntropy`, the threshold is applied to the smoothed and mixed target.
    """

    def loss(logits: paddle.Tensor, labels: paddle.Tensor, mixed: Mixed | None = None) -> paddle.Tensor:
        logits = logits.astype("float32")
        target = _target(labels, mixed, class_num, config.epsilon)
        if config.target_threshold is not None:
            target = (target > config.target_threshold).astype("float32")
        costs = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return costs.sum(axis=1).mean() if config.size_sum else costs.mean()

    return loss


def _target(labels: paddle.Tensor, mixed: Mixed | None, class_num: int, epsilon: float | None) -> paddle.Tensor:
    """Return the target distributions, float32 [N, class_num]. Each row sums to 1."""
    target = F.one_hot(labels, class_num)
    if mixed is not None:
        share = mixed.share.reshape([-1, 1])
        target = share * target + (1.0 - share) * F.one_hot(mixed.labels, class_num)
    return target if epsilon is None else F.label_smooth(target, epsilon=epsilon)
