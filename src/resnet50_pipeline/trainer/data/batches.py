"""Defines and loads batches: NumPy arrays in host memory, and tensors on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import paddle
from numpy.typing import DTypeLike, NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imaging.mixing import MixPlan
from resnet50_pipeline.trainer.data.dataset import Images, ListDataset, TransformedImage
from resnet50_pipeline.trainer.data.sampling import Key


@dataclass(frozen=True)
class Mixed:
    """The second set of labels for a batch that was mixed by mixup or CutMix.

    The target of an image is share · onehot(batch.labels) + (1 - share) · onehot(labels).

    Attributes:
        labels: int64 [N], labels of the images that were mixed into the batch.
        share: float32 [N], weight of each image's original label, in 0..1.
    """

    labels: paddle.Tensor
    share: paddle.Tensor


@dataclass(frozen=True)
class Batch:
    """A batch on the device: a rank's images for a training or evaluation step.

    Attributes:
        images: float32 [N, 3, H, W], channels red, green, blue.
        labels: int64 [N].
        index: int64 [N], rows of the list file.
        mixed: second set of labels, or None if the images are not mixed.
        skipped: error messages for unreadable images. Each of these was replaced by another image from the list.
    """

    images: paddle.Tensor
    labels: paddle.Tensor
    index: paddle.Tensor
    mixed: Mixed | None = None
    skipped: tuple[str, ...] = ()


class LoadedBatch(NamedTuple):
    """A batch in host memory.

    Attributes:
        images: [N, 3, H, W]. Float32 images are normalized and mixed. Uint8 images are normalized and mixed later, by
            the device.
        labels: int64 [N].
        rows: int64 [N], rows of the list file.
        skipped: error messages for unreadable images. Each of these was replaced by another image from the list.
        plan: plan for mixing the images, or None if the recipe does not mix images.
    """

    images: Images
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    skipped: tuple[str, ...]
    plan: MixPlan | None


def load_batch(
    dataset: ListDataset, keys: Sequence[Key], max_skipped: int, buffer: memoryview | None = None
) -> LoadedBatch:
    """Load the images for a batch.

    An unreadable image is replaced by the next readable image, at most `max_skipped` rows further down the list. This
    keeps the batch size constant and the ranks synchronized. The replacement depends only on the list, so a resumed run
    uses the same replacement. ImageNet's lists are sorted by class, so the replacement nearly always has the same
    label.

    Args:
        dataset: dataset to load from.
        keys: keys of the images, in batch order.
        max_skipped: maximum number of rows to search for a replacement. If this number is 0, an unreadable image is an
            error.
        buffer: memory for the images. If the buffer is None or too small, new memory is allocated.

    Raises:
        ImageDecodeError: if an image and all its possible replacements are unreadable.
    """
    rows = np.empty(len(keys), dtype=np.int64)
    images: Images = np.empty(0, dtype=dataset.image_dtype)
    skipped = []
    for position, key in enumerate(keys):
        rows[position], image, problem = _load_readable(dataset, key, max_skipped)
        if position == 0:
            # The first image determines the size, because progressive resizing changes it between epochs.
            images = allocate_array((len(keys), 3, *image.pixels.shape[:2]), dataset.image_dtype, buffer)
        dataset.write(image, images[position])
        if problem:
            skipped.append(problem)
    plan = dataset.mix_plan(len(keys), images.shape[-1], keys[0])
    if plan is not None and images.dtype == np.float32:
        plan.mix(images)
    return LoadedBatch(images, dataset.labels(rows), rows, tuple(skipped), plan)


def allocate_array(shape: tuple[int, ...], dtype: DTypeLike, buffer: memoryview | None) -> Images:
    """Return an uninitialized array at the start of `buffer`, or in new memory if the buffer is too small."""
    if buffer is None or np.dtype(dtype).itemsize * np.prod(shape) > len(buffer):
        return np.empty(shape, dtype=dtype)
    array: Images = np.frombuffer(buffer, dtype=dtype, count=int(np.prod(shape))).reshape(shape)
    return array


def _load_readable(dataset: ListDataset, key: Key, max_skipped: int) -> tuple[int, TransformedImage, str]:
    """Return the row, the image and an error message.

    For an unreadable image, the row and the image are those of the replacement. For a readable one, the message is "".
    """
    problem = ""
    for offset in range(max_skipped + 1):
        row = (key.row + offset) % len(dataset)
        try:
            return row, dataset.transform(key._replace(row=row)), problem
        except ImageDecodeError as error:
            problem = problem or str(error)
    raise ImageDecodeError(problem)


def mixed_labels(labels: NDArray[np.int64], plan: MixPlan) -> Mixed:
    """Return the second set of labels and the mixing weights for a mixed batch."""
    share = np.full(len(labels), plan.share, dtype=np.float32)
    return Mixed(labels=paddle.to_tensor(labels[plan.partner]), share=paddle.to_tensor(share))
