"""Measures a network's gradients and updates: the gradient norm and the update-to-weight ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import paddle
from paddle import _C_ops

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4", "head")


class UpdateMonitor:
    """Measures a single update of the weights. Only `read()` waits for the device.

    The gradient norm is the L2 norm of all gradients together, as the optimizer receives them: averaged over the batch
    and the ranks, accumulated, without the loss scale, and before clipping. The update-to-weight ratio of a stage is
    |w_new - w_old| / |w_old| over all trained parameters of the stage. With a suitable learning rate, it is roughly
    0.001 (A. Karpathy, CS231n notes, "Babysitting the learning process").
    """

    def __init__(self, network: paddle.nn.Layer, *, with_ratios: bool) -> None:
        self._parameters = split_stages(network)
        self._with_ratios = with_ratios
        self._squares: paddle.Tensor | None = None
        self._old: dict[str, list[paddle.Tensor]] = {}
        self._changes: dict[str, tuple[paddle.Tensor, paddle.Tensor]] = {}

    def before_update(self) -> None:
        """Measure the gradients. With ratios, also copy the weights, which takes as much memory as the weights."""
        with paddle.no_grad():
            gradients = [p.grad for stage in self._parameters.values() for p in stage if p.grad is not None]
            self._squares = _sum_of_squares(gradients)
            if self._with_ratios:
                self._old = {
                    stage: [parameter.clone() for parameter in parameters if parameter.grad is not None]
                    for stage, parameters in self._parameters.items()
                }

    def after_update(self) -> None:
        """Compare the weights with the copies, and release the copies. Call this before the gradients are cleared."""
        with paddle.no_grad():
            for stage, old in self._old.items():
                new = [parameter for parameter in self._parameters[stage] if parameter.grad is not None]
                if old:
                    changes = [one - other for one, other in zip(new, old, strict=True)]
                    self._changes[stage] = (_sum_of_squares(changes), _sum_of_squares(old))
        self._old = {}

    def read(self) -> tuple[float | None, dict[str, float]]:
        """Return the gradient norm and the ratio of each stage, and clear both.

        The norm is None if no update was measured, for example because its gradients overflowed. Stages whose weights
        are all frozen or zero have no ratio.
        """
        squares, changes = self._squares, self._changes
        self._squares, self._changes = None, {}
        ratios = {stage: (float(change), float(weight)) for stage, (change, weight) in changes.items()}
        return (
            None if squares is None else math.sqrt(float(squares)),
            {stage: math.sqrt(change / weight) for stage, (change, weight) in ratios.items() if weight > 0},
        )


def split_stages(network: paddle.nn.Layer) -> dict[str, list[paddle.Tensor]]:
    """Return the trainable parameters of each stage of a ResNet from `ppcls.arch`, in the order of `STAGES`."""
    found: dict[str, list[paddle.Tensor]] = {stage: [] for stage in STAGES}
    ends = list(accumulate(network.block_depth))
    for name, parameter in network.named_parameters():
        if parameter.stop_gradient:
            continue
        layer, _, rest = name.partition(".")
        if layer == "blocks":
            block = int(rest.partition(".")[0])
            stage = f"stage{1 + sum(block >= end for end in ends)}"
        else:
            stage = "stem" if layer == "stem" else "head"
        found[stage].append(parameter)
    return found


def _sum_of_squares(tensors: Sequence[paddle.Tensor]) -> paddle.Tensor:
    # Same operator as in paddle.nn.ClipGradByGlobalNorm. `(tensor * tensor).sum()` takes four times as long on a CPU.
    return paddle.concat([_C_ops.squared_l2_norm(tensor).reshape([1]) for tensor in tensors]).sum()
