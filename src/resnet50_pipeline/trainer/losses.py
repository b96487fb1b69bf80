"""Losses by PaddleClas' names, of whole images and of mixed ones."""

from __future__ import annotations

from collections.abc import Callable

import paddle
import paddle.nn.functional as F  # noqa: N812 - the field's own abbreviation

from resnet50_pipeline.trainer.data import Mixed
from resnet50_pipeline.training_config import CELossConfig, LossItem, MultiLabelLossConfig

Loss = Callable[[paddle.Tensor, paddle.Tensor, Mixed | None], paddle.Tensor]


def build_loss(items: tuple[LossItem], class_num: int) -> Loss:
    """Return the loss: (logits [N, class_num], labels int64 [N], `Mixed` or None) → float32 scalar, the batch's mean.

    Whatever the network computed in, the loss is computed in float32.
    """
    (item,) = items
    if item.MultiLabelLoss is not None:
        return _binary_cross_entropy(item.MultiLabelLoss, class_num)
    assert item.CELoss is not None, "an item holds exactly one loss"  # noqa: S101 - what LossItem has checked
    return _cross_entropy(item.CELoss, class_num)


def _cross_entropy(config: CELossConfig, class_num: int) -> Loss:
    """Return `ppcls/loss/celoss.py`, but for one line.

    Without `epsilon`, upstream takes the softmax of a target vector, which turns a one-hot vector of 1000 classes into
    nearly the uniform one; here a target is what it says. Upstream's own recipes with mixed images all have `epsilon`.
    """

    def loss(logits: paddle.Tensor, labels: paddle.Tensor, mixed: Mixed | None = None) -> paddle.Tensor:
        logits = logits.astype("float32")
        # Not reduction="mean": paddle 2.6 then reads back whether a label is to be ignored, and the host waits for it.
        if config.epsilon is None and mixed is None:
            return F.cross_entropy(logits, labels.reshape([-1, 1]), reduction="none").mean()
        target = _target(labels, mixed, class_num, config.epsilon)
        return F.cross_entropy(logits, target, soft_label=True, reduction="none").mean()

    return loss


def _binary_cross_entropy(config: MultiLabelLossConfig, class_num: int) -> Loss:
    """Return `ppcls/loss/multilabelloss.py`, with labels and a threshold as targets.

    As `timm.loss.BinaryCrossEntropy`, with which A1 to A3 of "ResNet strikes back" were trained: the threshold is
    applied to the smoothed and mixed target.
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
    """Return the distributions that the images stand for, float32 [N, class_num]; each row sums up to 1."""
    target = F.one_hot(labels, class_num)
    if mixed is not None:
        share = mixed.share.reshape([-1, 1])
        target = share * target + (1.0 - share) * F.one_hot(mixed.labels, class_num)
    return target if epsilon is None else F.label_smooth(target, epsilon=epsilon)
