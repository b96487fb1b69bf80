"""From the images of a list file to batches on the device."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.image_source import ImageSource, LooseFiles
from resnet50_pipeline.imagenet.list_files import ListEntries
from resnet50_pipeline.imaging.mixing import BatchTransformOp, MixPlan
from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.trainer.sampling import EvalBatches, Key, TrainBatches
from resnet50_pipeline.training_config import SplitConfig

# One byte, for Paddle cannot send an empty array from a worker.
_NO_MESSAGE = b"-"
# Keeps the numbers that a batch is mixed with apart from those that an epoch is shuffled with.
_MIXING = 1


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
        mixed: None where the recipe mixes nothing, and in evaluation always.
        skipped: what was wrong with each image that could not be read and for which another one stands in.
    """

    images: paddle.Tensor
    labels: paddle.Tensor
    index: paddle.Tensor
    mixed: Mixed | None = None
    skipped: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One image: float32 [3, H, W], its label, its row of the list file."""

    pixels: NDArray[np.float32]
    label: np.int64
    row: np.int64


class Loaded(NamedTuple):
    """What became of a key: a sample and "", another image's sample and why, or nothing and why."""

    key: Key
    sample: Sample | None
    problem: str


class ListDataset(paddle.io.Dataset):
    """Images of a list file, transformed.

    The random numbers of an image are drawn from (seed, epoch, row, copy) alone: they depend neither on the number
    of workers or ranks nor on what was loaded before, so a resumed run sees what the unbroken one would have seen.
    """

    def __init__(self, entries: ListEntries, config: SplitConfig, seed: int, source: ImageSource | None = None) -> None:
        """Prepare the transform.

        Args:
            entries: of the list file.
            config: of the split.
            seed: of the run.
            source: where images come from; None for the files below `image_root`.
        """
        self._entries, self._seed, self._config = entries, seed, config
        self._source = source or LooseFiles(entries, Path(config.dataset.image_root))
        self._epoch, self._transform = 0, build_transform(config.dataset.transform_ops_of(0))

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        key = Key(*key)
        if self._config.dataset.progressive_resize is not None and key.epoch != self._epoch:
            self._epoch, self._transform = key.epoch, build_transform(self._config.dataset.transform_ops_of(key.epoch))
        data = self.read(key.row)
        try:
            pixels = self._transform(data, self.draw(key))
        except ImageDecodeError as error:
            raise self.explain(key.row, error) from error
        return Sample(pixels, self.label(key.row), np.int64(key.row))

    def read(self, row: int) -> bytes:
        """Return the bytes of an image's file.

        Raises:
            ImageDecodeError: they cannot be read.
        """
        return self._source.read(row)

    def draw(self, key: Key) -> random.Random:
        """Return the random numbers of an image at this place in the run."""
        seed = (self._seed << 64) | (key.copy << 56) | (key.epoch << 32) | key.row
        return random.Random(seed)  # noqa: S311 - reproducible, not secret

    def label(self, row: int) -> np.int64:
        """Return an image's label."""
        return np.int64(self._entries.labels[row])

    def explain(self, row: int, error: Exception) -> ImageDecodeError:
        """Return the error with the image's name."""
        return ImageDecodeError(f"{self._source.name(row)}: {error}")

    def mix_plan(self, images: int, side: int, key: Key) -> MixPlan | None:
        """Return how a batch is mixed, by its first key alone; None where the recipe mixes nothing."""
        if not self._config.dataset.batch_transform_ops:
            return None
        (operator,) = self._config.dataset.batch_transform_ops
        return plan_mixing(operator, images, side, self._seed, key)


def plan_mixing(operator: BatchTransformOp, images: int, side: int, seed: int, key: Key) -> MixPlan:
    """Return how a batch of square images is mixed: a pure function of seed and the batch's first key."""
    draw = np.random.default_rng([seed, key.epoch, key.row, key.copy, _MIXING])
    return operator.plan(images, side, draw)


def load_or_stand_in(dataset: ListDataset, key: Key, max_skipped: int) -> Loaded:
    """Load an image, or the next readable one of the list, at most `max_skipped` places further.

    Batches keep their sizes, so ranks stay in step; and who stands in depends on the list alone, so a resumed run has
    the same one. In ImageNet's lists, which are sorted, it nearly always has the same class.
    """
    problem = ""
    for offset in range(max_skipped + 1):
        try:
            sample = dataset[key._replace(row=(key.row + offset) % len(dataset))]
        except ImageDecodeError as error:
            problem = problem or str(error)
        else:
            return Loaded(key, sample, problem)
    return Loaded(key, None, problem)


class Loader:
    """The batches of one rank.

    With workers it is Paddle's DataLoader, whose processes live as long as it does. Without, the rank itself loads.
    An image that cannot be read must end the run with its name, and Paddle's loader cannot do that: an exception
    leaves the rank waiting for ever (no workers) or comes out as "SystemError: Blocking queue is killed" (workers;
    `dataloader_iter.py` of paddle 2.6 and 3.3). So a worker sends the message as data, and the rank raises it.
    """

    def __init__(self, dataset: ListDataset, batches: TrainBatches | EvalBatches, config: SplitConfig) -> None:
        self._items, self._batches = _Items(dataset, config.loader.max_skipped_images), batches
        self._collate = _Collate(dataset)
        self._workers = config.loader.num_workers
        if self._workers:
            self._loader = paddle.io.DataLoader(
                self._items,
                batch_sampler=batches,
                collate_fn=self._collate,
                num_workers=self._workers,
                use_shared_memory=config.loader.use_shared_memory,
                persistent_workers=True,
            )

    def __iter__(self) -> Iterator[Batch]:
        for images, labels, index, message, *mixed in self._loader if self._workers else self._load_here():
            skipped: tuple[str, ...] = ()
            if message.shape[0] > len(_NO_MESSAGE):
                skipped = read_message(message.numpy().tobytes())
            yield Batch(images, labels, index, Mixed(*mixed) if mixed else None, skipped)

    def _load_here(self) -> Iterator[list[paddle.Tensor]]:
        for keys in self._batches:
            yield [paddle.to_tensor(array) for array in self._collate([self._items[key] for key in keys])]


class _Items(paddle.io.Dataset):
    """A dataset that does not raise, but says what is wrong."""

    def __init__(self, dataset: ListDataset, max_skipped: int) -> None:
        self._dataset, self._max_skipped = dataset, max_skipped

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Key) -> Loaded:
        return load_or_stand_in(self._dataset, key, self._max_skipped)


class _Collate:
    """From what was loaded to [images, labels, indices, message], and labels and shares of mixed images."""

    def __init__(self, dataset: ListDataset) -> None:
        self._dataset = dataset

    def __call__(self, loaded: Sequence[Loaded]) -> list[NDArray[np.generic]]:
        samples = [item.sample for item in loaded if item.sample is not None]
        message = np.frombuffer(write_message(loaded), dtype=np.uint8)
        if len(samples) < len(loaded):
            nothing = np.zeros(1, dtype=np.int64)
            mixes = self._dataset.mix_plan(1, 1, loaded[0].key) is not None
            return [nothing, nothing, nothing, message, *([nothing, nothing] if mixes else [])]
        images, labels, indices = (np.stack(column) for column in zip(*samples, strict=True))
        plan = self._dataset.mix_plan(len(samples), images.shape[-1], loaded[0].key)
        if plan is None:
            return [images, labels, indices, message]
        plan.mix(images)
        shares = np.full(len(samples), plan.share, dtype=np.float32)
        return [images, labels, indices, message, labels[plan.partner], shares]


def write_message(loaded: Sequence[Loaded]) -> bytes:
    """Return what was wrong in a batch, for `read_message`."""
    failed = [item.problem for item in loaded if item.sample is None]
    skipped = [item.problem for item in loaded if item.sample is not None and item.problem]
    return json.dumps([failed, skipped]).encode() if failed or skipped else _NO_MESSAGE


def read_message(message: bytes) -> tuple[str, ...]:
    """Return what was wrong with the images of a batch for which others stand in.

    Raises:
        ImageDecodeError: for one image there was none that could.
    """
    if message == _NO_MESSAGE:
        return ()
    failed, skipped = json.loads(message)
    if failed:
        raise ImageDecodeError(failed[0])
    return tuple(skipped)
