"""Adds the gradients of a step's batches in an order that does not depend on the number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import paddle

from resnet50_pipeline.recipe.virtual_ranks import tree_width
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.share import Share

# Gradients with fewer values, such as those of BatchNorm, are exchanged in one message. Copying larger gradients into
# this message would take longer than sending them separately.
_SMALL = 1 << 16


class GradientTree:
    """Adds gradients in a fixed binary tree (see `recipe/virtual_ranks.py`), first on each rank and then between ranks.

    Ranks exchange gradients in pairs. Both ranks of a pair get the same sum, because a + b = b + a, so the gradients
    are bit-identical on all ranks after the last exchange.
    """

    def __init__(self, parameters: Sequence[paddle.Tensor], ranks: Ranks, share: Share) -> None:
        self._parameters, self._ranks = parameters, ranks
        width = tree_width(share.virtual_ranks)
        self._leaves = width // ranks.count
        # Paddle accumulates the gradients of these batches in order, because the gradients are not cleared in between.
        self._batches_per_leaf = share.virtual_ranks // width * share.update_freq
        self._pending: list[list[paddle.Tensor]] = []

    def add_batch(self, position: int) -> None:
        """Add the gradients of a batch, after its backward pass.

        Args:
            position: 0-based index of the batch within this rank's step.
        """
        leaf, rest = divmod(position + 1, self._batches_per_leaf)
        if rest or self._leaves == 1:
            return
        # This works like a binary counter: leaf 1 waits, leaf 2 adds leaf 1, leaf 3 waits, and leaf 4 adds leaf 3 and
        # then the sum of leaves 1 and 2. At most one set of gradients waits per level of the tree.
        gradients = self._gradients()
        with paddle.no_grad():
            while leaf % 2 == 0:
                for gradient, other in zip(gradients, self._pending.pop(), strict=True):
                    gradient.add_(other)
                leaf //= 2
            if position + 1 < self._leaves * self._batches_per_leaf:
                self._pending.append([gradient.clone() for gradient in gradients])
                for parameter in self._parameters:
                    # Clear it rather than zero it, because 0 + (-0) is 0, whose sign bit differs from that of -0.
                    parameter.clear_gradient(set_to_zero=False)

    def add_ranks(self) -> None:
        """Add the gradients of all ranks. All ranks must call this method after the last batch of a step."""
        gradients = self._gradients()
        large = [gradient for gradient in gradients if gradient.size >= _SMALL]
        small = [gradient for gradient in gradients if gradient.size < _SMALL]
        with paddle.no_grad():
            for gradient in large:
                self._ranks.add_in_tree(gradient)
            if small:
                flat = paddle.concat([gradient.reshape([-1]) for gradient in small])
                self._ranks.add_in_tree(flat)
                parts = paddle.split(flat, [gradient.size for gradient in small])
                for gradient, part in zip(small, parts, strict=True):
                    paddle.assign(part.reshape(gradient.shape), output=gradient)

    def _gradients(self) -> list[paddle.Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]
