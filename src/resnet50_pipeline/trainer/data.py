"""From the images of a list file to batches on the device."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.image_source import ImageSource
from resnet50_pipeline.imagenet.list_files import ListEntries
from resnet50_pipeline.imagenet.shard_source import open_images
from resnet50_pipeline.imaging.base import Pixels
from resnet50_pipeline.imaging.mixing import BatchTransformOp, MixPlan
from resnet50_pipeline.imaging.operators import Transform, build_transform
from resnet50_pipeline.imaging.region import PACKAGE, can_decode_regions
from resnet50_pipeline.trainer.loaded_batch import Images, LoadedBatch, load_batch
from resnet50_pipeline.trainer.on_device import DeviceImages, mix_on_device
from resnet50_pipeline.trainer.sampling import EvalBatches, Key, TrainBatches
from resnet50_pipeline.trainer.workers import LoaderProcesses
from resnet50_pipeline.training_config import SplitConfig

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


class Seen(NamedTuple):
    """An image before it is normalised, and the random numbers for what comes behind that."""

    pixels: Pixels
    draw: random.Random
    transform: Transform


class ListDataset(paddle.io.Dataset):
    """Images of a list file, transformed.

    The random numbers of an image are drawn from (seed, epoch, row, copy) alone: they depend neither on the number
    of workers or ranks nor on what was loaded before, so a resumed run sees what the unbroken one would have seen.

    Attributes:
        image_dtype: of the images in a batch: float32, or uint8 that are normalised on the device.
        normalize: with what.
    """

    def __init__(self, entries: ListEntries, config: SplitConfig, seed: int, source: ImageSource | None = None) -> None:
        """Prepare the transform.

        Args:
            entries: of the list file.
            config: of the split.
            seed: of the run.
            source: where images come from; None for what `config` says: shards, or files below `image_root`.
        """
        self._entries, self._seed, self._config = entries, seed, config
        shards = None if config.dataset.shards is None else Path(config.dataset.shards)
        self._source = source or open_images(entries, Path(config.dataset.image_root), shards)
        self._epoch, self._transform = 0, self._transform_of(0)
        self.normalize = self._transform.normalize
        sends_bytes = config.loader.normalize_on_device and self._transform.gives_bytes
        self.image_dtype: type[np.float32 | np.uint8] = np.uint8 if sends_bytes else np.float32

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        key = Key(*key)
        seen = self.see(key)
        pixels = np.empty((3, *seen.pixels.shape[:2]), dtype=np.float32)
        self.write(seen, pixels)
        return Sample(pixels, np.int64(self._entries.labels[key.row]), np.int64(key.row))

    def see(self, key: Key) -> Seen:
        """Return an image's pixels as they go into the normalisation, for `write`.

        Raises:
            ImageDecodeError: it cannot be read or decoded.
        """
        if self._config.dataset.progressive_resize is not None and key.epoch != self._epoch:
            self._epoch, self._transform = key.epoch, self._transform_of(key.epoch)
        data, draw = self.read(key.row), self.draw(key)
        try:
            return Seen(self._transform.see(data, draw), draw, self._transform)
        except ImageDecodeError as error:
            raise self.explain(key.row, error) from error

    def write(self, seen: Seen, into: Images) -> None:
        """Write an image into its place of a batch, contiguous [3, H, W], float32 or uint8 as in `image_dtype`."""
        seen.transform.write(seen.pixels, into, seen.draw)

    def largest_image_bytes(self) -> int:
        """Return what an image of any epoch takes in a batch at most; 0 where that is not known before it is seen."""
        size = build_transform(self._config.dataset.transform_ops).size
        return 3 * size[0] * size[1] * np.dtype(self.image_dtype).itemsize if size else 0

    def warnings(self) -> list[str]:
        """Return what to know of wishes that are not fulfilled."""
        if self._config.loader.decode == "region" and not can_decode_regions():
            return [
                f"training.loader.decode is region, and {PACKAGE} is not installed: images are decoded whole, to the "
                f"same pixels, which takes longer"
            ]
        return []

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

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the labels of images."""
        return np.array([self._entries.labels[row] for row in rows], dtype=np.int64)

    def explain(self, row: int, error: Exception) -> ImageDecodeError:
        """Return the error with the image's name."""
        return ImageDecodeError(f"{self._source.name(row)}: {error}")

    def mix_plan(self, images: int, side: int, key: Key) -> MixPlan | None:
        """Return how a batch is mixed, by its first key alone; None where the recipe mixes nothing."""
        if not self._config.dataset.batch_transform_ops:
            return None
        (operator,) = self._config.dataset.batch_transform_ops
        return plan_mixing(operator, images, side, self._seed, key)

    def _transform_of(self, epoch: int) -> Transform:
        return build_transform(
            self._config.dataset.transform_ops_of(epoch), decodes_region=self._config.loader.decode == "region"
        )


def plan_mixing(operator: BatchTransformOp, images: int, side: int, seed: int, key: Key) -> MixPlan:
    """Return how a batch of square images is mixed: a pure function of seed and the batch's first key."""
    draw = np.random.default_rng([seed, key.epoch, key.row, key.copy, _MIXING])
    return operator.plan(images, side, draw)


class Loader:
    """The batches of one rank, loaded by processes of its own, or, without workers, by the rank itself."""

    def __init__(self, dataset: ListDataset, batches: TrainBatches | EvalBatches, config: SplitConfig) -> None:
        self._dataset, self._batches, self._max_skipped = dataset, batches, config.loader.max_skipped_images
        batch_bytes = batches.batch_size * dataset.largest_image_bytes()
        is_sent_as_bytes = dataset.image_dtype == np.uint8
        self._images = DeviceImages(dataset.normalize, 4 * batch_bytes if is_sent_as_bytes else 0)
        self._processes: LoaderProcesses | None = None
        if config.loader.num_workers:
            slot_bytes = batch_bytes if config.loader.use_shared_memory else 0
            self._processes = LoaderProcesses(dataset, self._max_skipped, config.loader.num_workers, slot_bytes)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches.

        Raises:
            ImageDecodeError: an image cannot be read, and no other may or can stand in for it.
            LoaderProcessError: a loader process was killed.
        """
        loading = iter(self._load())
        while (loaded := next(loading, None)) is not None:
            batch = self._to_device(loaded)
            # What is not referred to any more can be written to again.
            del loaded
            yield batch
            del batch

    def _load(self) -> Iterable[LoadedBatch]:
        if self._processes is not None:
            return self._processes.load(self._batches)
        return (load_batch(self._dataset, keys, self._max_skipped) for keys in self._batches)

    def _to_device(self, loaded: LoadedBatch) -> Batch:
        plan, images = loaded.plan, self._images.put(loaded.images)
        if plan is not None and loaded.images.dtype == np.uint8:
            images = mix_on_device(images, plan)
        return Batch(
            images=images,
            labels=paddle.to_tensor(loaded.labels),
            index=paddle.to_tensor(loaded.rows),
            mixed=None if plan is None else mixed_labels(loaded.labels, plan),
            skipped=loaded.skipped,
        )


def mixed_labels(labels: NDArray[np.int64], plan: MixPlan) -> Mixed:
    """Return the labels and shares of a batch that is mixed."""
    share = np.full(len(labels), plan.share, dtype=np.float32)
    return Mixed(labels=paddle.to_tensor(labels[plan.partner]), share=paddle.to_tensor(share))
