"""Ranks share the virtual ranks of a step, and add gradients in an order that is independent of the number of ranks."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from resnet50_pipeline.recipe.virtual_ranks import can_share, tree_width
from resnet50_pipeline.trainer.meters import EpochMeters, share_meters
from resnet50_pipeline.trainer.optimization.gradient_tree import GradientTree
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.share import Share

ALONE = Ranks(rank=0, count=1, device="cpu")


def test_ranks_share_subtrees():
    """A power of two that divides the number of virtual ranks shares them exactly. Otherwise, any divisor will do."""
    assert [ranks for ranks in range(1, 13) if can_share(12, ranks, deterministic=True)] == [1, 2, 4]
    assert [ranks for ranks in range(1, 13) if can_share(12, ranks, deterministic=False)] == [1, 2, 3, 4, 6, 12]
    assert tree_width(7) == 1


def test_batches_belong_to_virtual_ranks_in_turn():
    """In each step, a rank trains on all batches of its first virtual rank, and then on those of the next one."""
    share = Share(virtual_ranks=4, own=range(2, 4), update_freq=2)
    assert [share.locate(batch) for batch in range(8)] == [
        *((2, 0), (2, 1), (3, 0), (3, 1)),
        *((2, 2), (2, 3), (3, 2), (3, 3)),
    ]


@pytest.mark.parametrize("virtual_ranks", [1, 2, 4, 6, 8])
def test_one_rank_adds_gradients_in_a_tree(virtual_ranks: int):
    """A single rank adds the gradients in the order of the tree, which differs from the order of the batches."""
    weight = paddle.create_parameter([1000], "float32")
    numbers = np.random.default_rng(0).normal(size=(virtual_ranks, 1000)).astype(np.float32)
    tree = GradientTree([weight], ALONE, Share(virtual_ranks, range(virtual_ranks)))
    for position, gradient in enumerate(numbers):
        (weight * paddle.to_tensor(gradient)).sum().backward()
        tree.add_batch(position)

    width = tree_width(virtual_ranks)
    sums = []
    for group in numbers.reshape(width, virtual_ranks // width, 1000):
        total = group[0]
        for other in group[1:]:
            total = total + other
        sums.append(total)
    while len(sums) > 1:
        sums = [sums[place] + sums[place + 1] for place in range(0, len(sums), 2)]
    assert weight.grad.numpy().tobytes() == sums[0].tobytes()
    if virtual_ranks == 8:
        in_order = np.add.reduce(list(numbers))
        assert (in_order != sums[0]).any()


def test_other_ranks_continue_with_same_sums():
    """If two ranks continue an epoch of four, the totals of images and losses and the time per rank are unchanged."""
    values = [[8.0, 2.0, 4.0, 1.0, 0.0, 10.0] for _ in range(4)]
    totals = EpochMeters(Ranks(rank=0, count=4, device="cpu"), 0).totals
    state = {
        "totals": {**vars(totals), "images": 100.0, "rank_seconds": 40.0},
        "interval_start": 5,
        "interval": values,
    }
    shared = share_meters(state, 2)
    assert shared["interval"] == [[16.0, 4.0, 8.0, 1.0, 0.0, 10.0]] * 2
    assert (shared["totals"]["images"], shared["totals"]["rank_seconds"], shared["totals"]["ranks"]) == (100, 20, 2)
    assert shared["interval_start"] == 5
    assert share_meters({}, 2) == {}
