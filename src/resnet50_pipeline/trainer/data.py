"""Batches of a list file for one rank: who sees which image when is a pure function of seed, epoch and rank."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.list_files import ListEntries
from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.training_config import SplitConfig

# One byte, for Paddle cannot send an empty array from a worker.
_NO_MESSAGE = b"-"

Sample = tuple[NDArray[np.float32], np.int64, np.int64]


@dataclass(frozen=True)
class Mixed:
    """The other image of each mixed one: the target is share · onehot(batch.labels) + (1 - share) · onehot(labels).

    Attributes:
        labels: int64 [N], labels of the images that were mixed in.
        share: float32 [N], in 0..1, what is left of the image that the batch names.
    """

    labels: paddle.Tensor
    share: paddle.Tensor


@dataclass(frozen=True)
class Batch:
    """Images of one step of one rank.

    Attributes:
        images: float32 [N, 3, H, W], channels red, green, blue.
        labels: int64 [N].
        index: int64 [N], rows of the list file.
        mixed: None where every image is whole, and in evaluation always.
    """

    images: paddle.Tensor
    labels: paddle.Tensor
    index: paddle.Tensor
    mixed: Mixed | None = None


def epoch_order(images: int, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
    """Return the order of one epoch: a permutation of 0..images-1."""
    if not shuffle:
        return np.arange(images)
    return np.random.default_rng([seed, epoch]).permutation(images)


class TrainBatches(paddle.io.BatchSampler):
    """The batches of one epoch for one rank, as lists of (epoch, index).

    As Paddle's DistributedBatchSampler: the order is padded with its own beginning until it divides by the number
    of ranks, and rank r takes every count-th image. All ranks have the same number of batches of the same sizes.
    A run that goes on in the middle of an epoch sets `start_step`: so many batches are passed over without loading
    them, and the rest are those of an unbroken epoch. `epoch` and `start_step` are set before each iteration.
    """

    def __init__(self, images: int, config: SplitConfig, ranks: Ranks, seed: int) -> None:
        self.batch_size = config.sampler.batch_size
        self.epoch = 0
        self.start_step = 0
        self.images_per_rank = -(-images // ranks.count)
        whole, rest = divmod(self.images_per_rank, self.batch_size)
        self.steps_per_epoch = whole + (1 if rest and not config.sampler.drop_last else 0)
        self._images, self._shuffle, self._ranks, self._seed = images, config.sampler.shuffle, ranks, seed

    def __len__(self) -> int:
        return self.steps_per_epoch - self.start_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = epoch_order(self._images, self._seed, self.epoch, self._shuffle)
        mine = np.resize(order, self.images_per_rank * self._ranks.count)[self._ranks.rank :: self._ranks.count]
        for step in range(self.start_step, self.steps_per_epoch):
            batch = mine[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in batch]


class EvalBatches(paddle.io.BatchSampler):
    """The images of one rank in an evaluation, each image on exactly one rank; nothing is padded."""

    def __init__(self, images: int, batch_size: int, ranks: Ranks) -> None:
        self._mine = range(ranks.rank, images, ranks.count)
        self.batch_size = batch_size
        self.steps = -(-len(self._mine) // batch_size)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in range(0, len(self._mine), self.batch_size):
            yield [(0, index) for index in self._mine[start : start + self.batch_size]]


class ListDataset(paddle.io.Dataset):
    """Images of a list file, transformed; `dataset[epoch, index]` gives (float32 [3, H, W], label, index).

    The random numbers of an image are drawn from (seed, epoch, index) alone: they depend neither on the number of
    workers or ranks nor on what was loaded before, so a resumed run sees what the unbroken one would have seen.
    """

    def __init__(self, entries: ListEntries, config: SplitConfig, seed: int) -> None:
        self._entries, self._seed = entries, seed
        self._image_root = Path(config.dataset.image_root)
        self._transform = build_transform(config.dataset.transform_ops)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        path = self._image_root / self._entries.paths[index]
        draw = random.Random((self._seed << 64) | (epoch << 32) | index)  # noqa: S311 - reproducible, not secret
        try:
            pixels = self._transform(path.read_bytes(), draw)
        except OSError as error:
            raise ImageDecodeError(
                f"{path}: cannot be read: {error.strerror}; was it moved since validation?"
            ) from error
        except ImageDecodeError as error:
            raise ImageDecodeError(f"{path}: {error}") from error
        return pixels, np.int64(self._entries.labels[index]), np.int64(index)


class Loader:
    """The batches of one rank.

    With workers it is Paddle's DataLoader, whose processes live as long as it does. Without, the rank itself loads.
    An image that cannot be read must end the run with its name, and Paddle's loader cannot do that: an exception
    leaves the rank waiting for ever (no workers) or comes out as "SystemError: Blocking queue is killed" (workers;
    `dataloader_iter.py` of paddle 2.6 and 3.3). So a worker sends the message as data, and the rank raises it.
    """

    def __init__(self, dataset: ListDataset, batches: TrainBatches | EvalBatches, config: SplitConfig) -> None:
        self._dataset, self._batches = dataset, batches
        self._workers = config.loader.num_workers
        if self._workers:
            self._loader = paddle.io.DataLoader(
                _SendingErrors(dataset),
                batch_sampler=batches,
                collate_fn=_collate,
                num_workers=self._workers,
                use_shared_memory=config.loader.use_shared_memory,
                persistent_workers=True,
            )

    def __iter__(self) -> Iterator[Batch]:
        if not self._workers:
            yield from self._load_here()
            return
        for images, labels, indices, message in self._loader:
            if message.shape[0] > len(_NO_MESSAGE):
                raise ImageDecodeError(message.numpy().tobytes().decode())
            yield Batch(images, labels, indices)

    def _load_here(self) -> Iterator[Batch]:
        for keys in self._batches:
            images, labels, indices, _ = _collate([self._dataset[key] for key in keys])
            yield Batch(paddle.to_tensor(images), paddle.to_tensor(labels), paddle.to_tensor(indices))


class _SendingErrors(paddle.io.Dataset):
    """A dataset whose item is either a sample or the message of the error that stood in its way."""

    def __init__(self, dataset: ListDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample | str:
        try:
            return self._dataset[key]
        except ImageDecodeError as error:
            return str(error)


def _collate(items: list[Sample | str]) -> list[NDArray[np.generic]]:
    """Return [images, labels, indices, message]; the message is UTF-8 in uint8, `_NO_MESSAGE` where no item is one."""
    messages = [item for item in items if isinstance(item, str)]
    if messages:
        nothing = np.zeros(1, dtype=np.int64)
        return [nothing, nothing, nothing, np.frombuffer(messages[0].encode(), dtype=np.uint8)]
    images, labels, indices = zip(*items, strict=True)
    return [np.stack(images), np.stack(labels), np.stack(indices), np.frombuffer(_NO_MESSAGE, dtype=np.uint8)]
