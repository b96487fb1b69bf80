"""Reads and transforms individual images from a list file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.image_source import ImageSource
from resnet50_pipeline.imagenet.lists.files import ListEntries
from resnet50_pipeline.imagenet.shards.source import open_images
from resnet50_pipeline.imaging.base import Pixels
from resnet50_pipeline.imaging.mixing import BatchTransformOp, MixPlan
from resnet50_pipeline.imaging.operators import Transform, build_transform
from resnet50_pipeline.imaging.region import PACKAGE, IntactImages, can_decode_regions
from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.trainer.data.sampling import Key

Images = NDArray[Any]  # float32 or uint8 [N, 3, H, W]
# Mixing and shuffling use the same seed. This number gives mixing a separate stream of random numbers.
_MIXING_STREAM = 1


class Sample(NamedTuple):
    """An image (float32 [3, H, W]), its label, and its row in the list file."""

    pixels: NDArray[np.float32]
    label: np.int64
    row: np.int64


class TransformedImage(NamedTuple):
    """An image that is ready for normalization, with the random number generator for the remaining operators."""

    pixels: Pixels
    draw: random.Random
    operators: Transform


class ListDataset(paddle.io.Dataset):
    """The transformed images in a list file.

    The random numbers for an image depend only on the seed, epoch, row and copy, not on the number of workers or ranks,
    or on previously loaded images. A resumed run therefore loads the same images as an uninterrupted one.

    Attributes:
        image_dtype: dtype of the images in a batch. It is float32, or uint8 if the device normalizes the images.
        normalize: operator that normalizes the images.
    """

    def __init__(self, entries: ListEntries, config: SplitConfig, seed: int, source: ImageSource | None = None) -> None:
        """Prepare the transform.

        Args:
            entries: entries in the list file.
            config: configuration of the split.
            seed: seed of the run.
            source: source of the encoded images. Defaults to the source in `config`, which is a shard set or a folder
                of loose files.
        """
        self._entries, self._seed, self._config = entries, seed, config
        shards = None if config.dataset.shards is None else Path(config.dataset.shards)
        self._source = source or open_images(entries, Path(config.dataset.image_root), shards)
        self._intact = IntactImages(len(entries)) if config.loader.decode == "region" else None
        self._epoch, self._operators = 0, self._build_operators(0)
        self.normalize = self._operators.normalize
        sends_uint8 = config.loader.normalize_on_device and self._operators.supports_uint8
        self.image_dtype: type[np.float32 | np.uint8] = np.uint8 if sends_uint8 else np.float32

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        key = Key(*key)
        image = self.transform(key)
        pixels = np.empty((3, *image.pixels.shape[:2]), dtype=np.float32)
        self.write(image, pixels)
        return Sample(pixels, np.int64(self._entries.labels[key.row]), np.int64(key.row))

    def transform(self, key: Key) -> TransformedImage:
        """Read, decode and augment an image. Call `write` afterward to normalize the image.

        Raises:
            ImageDecodeError: if the image cannot be read or decoded.
        """
        if self._config.dataset.progressive_resize is not None and key.epoch != self._epoch:
            self._epoch, self._operators = key.epoch, self._build_operators(key.epoch)
        data, draw = self.read(key.row), self.draw(key)
        is_intact = self._intact is not None and self._intact.contains(key.row, data)
        try:
            pixels = self._operators.apply(data, draw, is_intact=is_intact)
        except ImageDecodeError as error:
            raise self.name_error(key.row, error) from error
        if self._intact is not None and not is_intact:
            self._intact.add(key.row, data)
        return TransformedImage(pixels, draw, self._operators)

    def write(self, image: TransformedImage, target: Images) -> None:
        """Normalize an image if `image_dtype` is float32, and write it to `target`, a contiguous array [3, H, W]."""
        image.operators.write(image.pixels, target, image.draw)

    def largest_image_bytes(self) -> int:
        """Return the maximum size in bytes of a transformed image over all epochs, or 0 if sizes vary by image."""
        size = build_transform(self._config.dataset.transform_ops).size
        return 3 * size[0] * size[1] * np.dtype(self.image_dtype).itemsize if size else 0

    def warnings(self) -> list[str]:
        """Return a warning for each requested feature that is unavailable."""
        if self._config.loader.decode == "region" and not can_decode_regions():
            return [
                f"training.loader.decode is 'region', but {PACKAGE} is not installed, so images are decoded in full, "
                "which takes longer but produces the same pixels"
            ]
        return []

    def read(self, row: int) -> bytes:
        """Return the encoded bytes of an image.

        Raises:
            ImageDecodeError: if the image cannot be read.
        """
        return self._source.read(row)

    def draw(self, key: Key) -> random.Random:
        """Return the random number generator for an image."""
        low, high = key.copy & 0xFF, key.copy >> 8  # the seed of the run occupies the bits in between
        seed = (high << 128) | (self._seed << 64) | (low << 56) | (key.epoch << 32) | key.row
        return random.Random(seed)  # noqa: S311 - reproducible, not secret

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the labels of the images in `rows`."""
        return np.array([self._entries.labels[row] for row in rows], dtype=np.int64)

    def name_error(self, row: int, error: ImageDecodeError) -> ImageDecodeError:
        """Return a copy of the error whose message starts with the image's name and ends with the next step."""
        return error.named(self._source.name(row))

    def mix_plan(self, images: int, side: int, key: Key) -> MixPlan | None:
        """Return the mixing plan for the batch that starts with `key`, or None if the recipe does not mix images."""
        if not self._config.dataset.batch_transform_ops:
            return None
        (operator,) = self._config.dataset.batch_transform_ops
        return plan_mixing(operator, images, side, self._seed, key)

    def _build_operators(self, epoch: int) -> Transform:
        return build_transform(
            self._config.dataset.transform_ops_of(epoch), decodes_region=self._config.loader.decode == "region"
        )


def plan_mixing(operator: BatchTransformOp, images: int, side: int, seed: int, key: Key) -> MixPlan:
    """Return the mixing plan for a batch of square images, based only on the seed and the batch's first key."""
    draw = np.random.default_rng([seed, key.epoch, key.row, key.copy, _MIXING_STREAM])
    return operator.plan(images, side, draw)
