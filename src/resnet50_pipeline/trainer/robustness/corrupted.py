"""Loads corrupted copies of images. Consecutive copies of the same image share a single decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2

from resnet50_pipeline.imagenet.lists.files import ListEntries
from resnet50_pipeline.imaging.corruptions.corrupt import corrupt
from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.trainer.data.dataset import ListDataset, TransformedImage
from resnet50_pipeline.trainer.data.sampling import EvalBatches, Key
from resnet50_pipeline.trainer.ranks import Ranks


class Variant(NamedTuple):
    """A corruption and its severity, 1 to 5."""

    corruption: str
    severity: int


class CorruptedDataset(ListDataset):
    """The corrupted copies of the images in a list file. The `copy` of a key is the position of its variant.

    The images are corrupted after the resize and the crop, and before normalization, as in ImageNet-C. The random
    numbers depend only on the path of the image, the corruption and the severity.
    """

    def __init__(self, entries: ListEntries, config: SplitConfig, seed: int, variants: Sequence[Variant]) -> None:
        super().__init__(entries, config, seed)
        self._variants = tuple(variants)
        self._latest: tuple[int, TransformedImage] | None = None

    def transform(self, key: Key) -> TransformedImage:
        """Read, decode and crop an image, unless the previous call was for the same image, and corrupt it.

        Raises:
            ImageDecodeError: if the image cannot be read or decoded.
        """
        if self._latest is None or self._latest[0] != key.row:
            self._latest = key.row, super().transform(Key(key.epoch, key.row))
        image = self._latest[1]
        name, variant = self._entries.paths[key.row], self._variants[key.copy]
        if image.operators.is_rgb:
            return image._replace(pixels=corrupt(image.pixels, *variant, name))
        corrupted = corrupt(cv2.cvtColor(image.pixels, cv2.COLOR_BGR2RGB), *variant, name)
        return image._replace(pixels=cv2.cvtColor(corrupted, cv2.COLOR_RGB2BGR))


class CorruptedBatches(EvalBatches):
    """Yields a rank's batches of corrupted copies: all variants of its first image, then of its second, and so on."""

    def __init__(self, images: int, batch_size: int, ranks: Ranks, variants: int) -> None:
        super().__init__(images, batch_size, ranks)
        self._variants = variants
        self.steps = -(-len(self._rows) * variants // batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        copies = len(self._rows) * self._variants
        for start in range(0, copies, self.batch_size):
            positions = range(start, min(start + self.batch_size, copies))
            yield [Key(0, self._rows[one // self._variants], one % self._variants) for one in positions]
