"""Assigns images to ranks and steps. The assignment depends only on the seed, the epoch and the rank."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.trainer.share import Share

# The length of a RASampler epoch is a multiple of this number, as in PaddleClas and torchvision.
_REPEATED_UNIT = 256
# Gives class-balanced sampling a separate stream of random numbers.
_BALANCED_STREAM = 2


class Key(NamedTuple):
    """Identifies one use of an image. Together with the seed, the key determines all random numbers for augmentation.

    Attributes:
        epoch: 1-based epoch, or 0 during evaluation.
        row: row of the list file.
        copy: repetition index within the epoch (RASampler, images_per_class), from 0.
    """

    epoch: int
    row: int
    copy: int = 0


def epoch_order(images: int, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
    """Return the order of images in an epoch as a permutation of 0..images-1."""
    if not shuffle:
        return np.arange(images)
    return np.random.default_rng([seed, epoch]).permutation(images)


def balanced_order(
    labels: NDArray[np.int64], images_per_class: int, seed: int, epoch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of a class-balanced epoch in order, and the repetition index of each row.

    An epoch has `images_per_class` images for every class. For each class, permutations of its images are concatenated
    into an endless sequence, and each epoch uses the next part of this sequence. Over many epochs, all images of a
    class are therefore used equally often. The result depends only on the seed and the epoch.

    Args:
        labels: int64 [N], label of each row.
        images_per_class: number of images per class in an epoch.
        seed: seed of the run.
        epoch: number of the epoch, 1-based.
    """
    start = (epoch - 1) * images_per_class
    classes, sizes = np.unique(labels, return_counts=True)
    rows = []
    for label, members in zip(classes, np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1]), strict=True):
        first, last = start // len(members), (start + images_per_class - 1) // len(members)
        sequence = np.concatenate(
            [
                np.random.default_rng([seed, number, label, _BALANCED_STREAM]).permutation(members)
                for number in range(first, last + 1)
            ]
        )
        offset = start - first * len(members)
        rows.append(sequence[offset : offset + images_per_class])
    chosen = np.concatenate(rows)
    chosen = chosen[np.random.default_rng([seed, epoch, _BALANCED_STREAM]).permutation(len(chosen))]
    return chosen, _count_earlier(chosen)


def _count_earlier(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often the value at each position occurs at earlier positions."""
    order = np.argsort(rows, kind="stable")
    values = rows[order]
    is_first = np.r_[True, values[1:] != values[:-1]]
    starts = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    earlier = np.empty_like(rows)
    earlier[order] = np.arange(len(rows)) - starts
    return earlier


class TrainBatches(paddle.io.BatchSampler):
    """Yields a rank's batches for an epoch. Each batch is a list of `Key`s.

    Images are assigned as in Paddle's DistributedBatchSampler. Their order is padded to a multiple of the number of
    ranks, with images from the start of the order. Of n ranks, rank r uses every n-th image, starting at position r.
    The number of batches and their sizes are the same on all ranks.

    With `Global.virtual_ranks`, images are assigned to virtual ranks in the same way. In each step, a rank yields the
    batches of its first virtual rank, then the batches of its second virtual rank, and so on.

    With `num_repeats`, images are assigned as in PaddleClas' RASampler. The copies of an image are consecutive in the
    order, so they go to different ranks. An epoch is about as long as without repeats: the number of images in the
    list, rounded down to a multiple of 256 if there are at least 256.

    With `images_per_class`, the order comes from `balanced_order` instead.

    Set `epoch` and `start_step` before each iteration. A run that resumes within an epoch sets `start_step` to skip
    that many batches without loading them. The remaining batches are the same as in an uninterrupted epoch.
    """

    def __init__(
        self, images: int, config: SplitConfig, share: Share, seed: int, labels: NDArray[np.int64] | None = None
    ) -> None:
        """Compute the number of batches.

        Args:
            images: number of images in the train list.
            config: configuration of the split.
            share: this rank's share of each step.
            seed: seed of the run.
            labels: int64 [images], labels of the images. Only `images_per_class` needs them.

        Raises:
            ValueError: if `images_per_class` is set and there are no labels.
        """
        self.batch_size = config.sampler.batch_size
        self._per_class, self._labels = config.sampler.images_per_class, labels
        if self._per_class is not None:
            if labels is None:
                raise ValueError("images_per_class needs the labels of the train list")
            images = self._per_class * len(np.unique(labels))
        self.epoch = 0
        self.start_step = 0
        self._repeats = config.sampler.num_repeats or 1
        if self._repeats == 1:
            self.images_per_rank = -(-images // share.virtual_ranks)
        else:
            self.images_per_rank = (images // _REPEATED_UNIT * _REPEATED_UNIT or images) // share.virtual_ranks
        whole, rest = divmod(self.images_per_rank, self.batch_size)
        self.steps_per_epoch = whole + (1 if rest and not config.sampler.drop_last else 0)
        self._images, self._shuffle, self._share, self._seed = images, config.sampler.shuffle, share, seed

    def warnings(self) -> list[str]:
        """Return a warning if the last batch of an epoch is a single image."""
        if self.batch_size == 1:
            return [
                "every batch has only one image per rank, so BatchNorm trains on the statistics of single images but "
                "evaluates with running statistics, which are different. Set training.batch_size_per_rank to at least "
                "2; training.update_freq accumulates gradients, but does not change BatchNorm"
            ]
        before = (self.steps_per_epoch - 1) * self.batch_size
        if self.images_per_rank - before != 1:
            return []
        return [
            f"the last batch of an epoch has only one image per rank ({self.images_per_rank} images in batches of "
            f"{self.batch_size}). This batch counts as much as a full batch, and BatchNorm computes its statistics "
            "from a single image. Set training.loader.drop_last: true to drop this batch"
        ]

    def __len__(self) -> int:
        return (self.steps_per_epoch - self.start_step) * len(self._share.own)

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order()
        batches_of = [self._batches(virtual_rank, *order) for virtual_rank in self._share.own]
        for first in range(self.start_step, self.steps_per_epoch, self._share.update_freq):
            for batches in batches_of:
                yield from itertools.islice(batches, min(self._share.update_freq, self.steps_per_epoch - first))

    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the row and the repetition index for each position in the epoch."""
        positions = np.arange(self.images_per_rank * self._share.virtual_ranks)
        if self._per_class is not None and self._labels is not None:
            order, earlier = balanced_order(self._labels, self._per_class, self._seed, self.epoch)
            return order[positions % self._images], earlier[positions % self._images]
        order = epoch_order(self._images, self._seed, self.epoch, self._shuffle)
        return order[positions // self._repeats % self._images], positions % self._repeats

    def _batches(self, virtual_rank: int, rows: NDArray[np.int64], copies: NDArray[np.int64]) -> Iterator[list[Key]]:
        rows, copies = (values[virtual_rank :: self._share.virtual_ranks] for values in (rows, copies))
        for step in range(self.start_step, self.steps_per_epoch):
            batch = slice(step * self.batch_size, (step + 1) * self.batch_size)
            yield [Key(self.epoch, int(row), int(copy)) for row, copy in zip(rows[batch], copies[batch], strict=True)]


class EvalBatches(paddle.io.BatchSampler):
    """Yields a rank's batches for an evaluation. Each image belongs to exactly one rank, without padding."""

    def __init__(self, images: int, batch_size: int, ranks: Ranks) -> None:
        self._rows = range(ranks.rank, images, ranks.count)
        self.batch_size = batch_size
        self.steps = -(-len(self._rows) // batch_size)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self._rows), self.batch_size):
            yield [Key(0, row) for row in self._rows[start : start + self.batch_size]]
