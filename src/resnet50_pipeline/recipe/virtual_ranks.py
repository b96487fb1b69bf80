"""Defines which numbers of ranks can share the virtual ranks of a step.

The gradients of V = width * n virtual ranks are added in a fixed order, where width is the largest power of two that
divides V. The gradients in each group of n virtual ranks are added in sequence, and the sums of the groups are added in
a binary tree. A rank that computes a whole subtree adds the same numbers in the same order as several ranks that share
this subtree.
"""

from __future__ import annotations


def tree_width(virtual_ranks: int) -> int:
    """Return the number of leaves in the tree: the largest power of two that divides the number of virtual ranks."""
    return virtual_ranks & -virtual_ranks


def can_share(virtual_ranks: int, ranks: int, *, deterministic: bool) -> bool:
    """Return whether the virtual ranks can be divided among the ranks.

    If `deterministic`, each rank must compute a whole subtree.
    """
    return (tree_width(virtual_ranks) if deterministic else virtual_ranks) % ranks == 0
