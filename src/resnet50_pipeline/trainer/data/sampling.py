"""Assigns images to ranks and steps. The assignment depends only on the seed, the epoch and the rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.trainer.ranks import Ranks

# The length of a RASampler epoch is a multiple of this number, as in PaddleClas and torchvision.
_REPEATED_UNIT = 256
# Gives class-balanced sampling a separate stream of random numbers.
_BALANCED_STREAM = 2


class Key(NamedTuple):
    """Identifies one use of an image. Together with the seed, it determines all random numbers for augmentation.

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

    An epoch has `images_per_class` images of every class. Each class has an endless sequence of images, which is a
    series of permutations of the images in the class, and each epoch uses the next part of this sequence. Over many
    epochs, all images of a class are therefore used equally often. The result depends only on the seed and the epoch.

    Args:
        labels: int64 [N], label of each row.
        images_per_class: number of images of each class in an epoch.
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
    """For each position, return how often its value occurs before it."""
    order = np.argsort(rows, kind="stable")
    values = rows[order]
    is_first = np.r_[True, values[1:] != values[:-1]]
    starts = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    earlier = np.empty_like(rows)
    earlier[order] = np.arange(len(rows)) - starts
    return earlier


class TrainBatches(paddle.io.BatchSampler):
    """Yields a rank's batches for an epoch. Each batch is a list of `Key`s.

    The assignment is the same as in Paddle's DistributedBatchSampler. The order of the images is padded with images
    from its beginning, until its length is a multiple of the number of ranks. Of n ranks, rank r uses every n-th image,
    starting at position r. All ranks have the same number of batches with the same sizes.

    With `num_repeats`, the assignment is the same as in PaddleClas' RASampler. The copies of an image are consecutive
    in the order, so they are assigned to different ranks. The length of an epoch stays about the same: it is the number
    of images in the list, rounded down to a multiple of 256 for lists of at least 256 images.

    With `images_per_class`, the order comes from `balanced_order` instead.

    Set `epoch` and `start_step` before each iteration. A run that resumes within an epoch sets `start_step` to skip
    that many batches without loading them. The remaining batches are the same as in an uninterrupted epoch.
    """

    def __init__(
        self, images: int, config: SplitConfig, ranks: Ranks, seed: int, labels: NDArray[np.int64] | None = None
    ) -> None:
        """Compute the number of batches.

        Args:
            images: number of images in the train list.
            config: configuration of the split.
            ranks: this rank, and the number of ranks.
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
            self.images_per_rank = -(-images // ranks.count)
        else:
            self.images_per_rank = (images // _REPEATED_UNIT * _REPEATED_UNIT or images) // ranks.count
        whole, rest = divmod(self.images_per_rank, self.batch_size)
        self.steps_per_epoch = whole + (1 if rest and not config.sampler.drop_last else 0)
        self._images, self._shuffle, self._ranks, self._seed = images, config.sampler.shuffle, ranks, seed

    def warnings(self) -> list[str]:
        """Return a warning if the last batch of an epoch is a single image."""
        if self.batch_size == 1:
            return [
                "every batch has only one image per rank. BatchNorm therefore normalizes each image with the image's "
                "own statistics, but evaluation uses running statistics, which differ. Set "
                "training.batch_size_per_rank to at least 2; training.update_freq accumulates gradients, but does not "
                "change BatchNorm"
            ]
        before = (self.steps_per_epoch - 1) * self.batch_size
        if self.images_per_rank - before != 1:
            return []
        return [
            f"the last batch of an epoch has only one image per rank ({self.images_per_rank} images in batches of "
            f"{self.batch_size}). This batch has the same weight as a full batch, and BatchNorm computes its "
            f"statistics from this image alone. Set training.loader.drop_last: true to drop it"
        ]

    def __len__(self) -> int:
        return self.steps_per_epoch - self.start_step

    def __iter__(self) -> Iterator[list[Key]]:
        positions = np.arange(self._ranks.rank, self.images_per_rank * self._ranks.count, self._ranks.count)
        if self._per_class is not None and self._labels is not None:
            order, earlier = balanced_order(self._labels, self._per_class, self._seed, self.epoch)
            rows, copies = order[positions % self._images], earlier[positions % self._images]
        else:
            order = epoch_order(self._images, self._seed, self.epoch, self._shuffle)
            rows, copies = order[positions // self._repeats % self._images], positions % self._repeats
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
