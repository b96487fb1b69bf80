"""Who sees which image when: a pure function of seed, epoch and rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.training_config import SplitConfig

# RASampler's epoch is whole times this long, as in PaddleClas and in torchvision.
_REPEATED_UNIT = 256


class Key(NamedTuple):
    """Which image is seen, and when; all that is random about it follows from this and the seed.

    Attributes:
        epoch: 1-based; 0 in evaluation.
        row: of the list file.
        copy: 0, or the how-manieth repetition in the epoch this is (RASampler).
    """

    epoch: int
    row: int
    copy: int = 0


def epoch_order(images: int, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
    """Return the order of one epoch: a permutation of 0..images-1."""
    if not shuffle:
        return np.arange(images)
    return np.random.default_rng([seed, epoch]).permutation(images)


class TrainBatches(paddle.io.BatchSampler):
    """The batches of one epoch for one rank, as lists of `Key`s.

    As Paddle's DistributedBatchSampler: the order is padded with its own beginning until it divides by the number
    of ranks, and rank r takes every count-th image. All ranks have the same number of batches of the same sizes.
    As PaddleClas' RASampler, with `num_repeats`: every image of the order stands there so often in a row, so that its
    copies go to different ranks, and the epoch ends after as many images as before, a multiple of 256 (where there
    are so many).
    A run that goes on in the middle of an epoch sets `start_step`: so many batches are passed over without loading
    them, and the rest are those of an unbroken epoch. `epoch` and `start_step` are set before each iteration.
    """

    def __init__(self, images: int, config: SplitConfig, ranks: Ranks, seed: int) -> None:
        self.batch_size = config.sampler.batch_size
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
        """Return what to know of an epoch's last batch where it is a single image."""
        before = (self.steps_per_epoch - 1) * self.batch_size
        if self.batch_size == 1 or self.images_per_rank - before != 1:
            return []
        return [
            f"the last batch of an epoch is one image a rank ({self.images_per_rank} images in batches of "
            f"{self.batch_size}): it moves the weights as far as a whole batch, and BatchNorm normalizes it by "
            f"itself; training.loader.drop_last: true leaves it out"
        ]

    def __len__(self) -> int:
        return self.steps_per_epoch - self.start_step

    def __iter__(self) -> Iterator[list[Key]]:
        order = epoch_order(self._images, self._seed, self.epoch, self._shuffle)
        places = np.arange(self._ranks.rank, self.images_per_rank * self._ranks.count, self._ranks.count)
        rows = order[places // self._repeats % self._images]
        copies = places % self._repeats
        for step in range(self.start_step, self.steps_per_epoch):
            batch = slice(step * self.batch_size, (step + 1) * self.batch_size)
            yield [Key(self.epoch, int(row), int(copy)) for row, copy in zip(rows[batch], copies[batch], strict=True)]


class EvalBatches(paddle.io.BatchSampler):
    """The images of one rank in an evaluation, each image on exactly one rank; nothing is padded."""

    def __init__(self, images: int, batch_size: int, ranks: Ranks) -> None:
        self._mine = range(ranks.rank, images, ranks.count)
        self.batch_size = batch_size
        self.steps = -(-len(self._mine) // batch_size)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self._mine), self.batch_size):
            yield [Key(0, row) for row in self._mine[start : start + self.batch_size]]
