"""One batch as NumPy holds it: images are read, changed and written into their places, in whatever process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imaging.mixing import MixPlan
from resnet50_pipeline.trainer.sampling import Key

if TYPE_CHECKING:
    from resnet50_pipeline.trainer.data import ListDataset, Seen

Images = NDArray[Any]  # float32 or uint8 [N, 3, H, W]


class LoadedBatch(NamedTuple):
    """A batch on the host.

    Attributes:
        images: float32 [N, 3, H, W], normalised and mixed, or uint8 [N, 3, H, W], of which both is left to do.
        labels: int64 [N].
        rows: int64 [N], of the list file.
        skipped: what was wrong with each image that another one stands in for.
        plan: how the batch is mixed; None where the recipe mixes nothing.
    """

    images: Images
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    skipped: tuple[str, ...]
    plan: MixPlan | None


def load_batch(
    dataset: ListDataset, keys: Sequence[Key], max_skipped: int, buffer: memoryview | None = None
) -> LoadedBatch:
    """Load the images of a batch.

    An image that cannot be read is replaced by the next readable one of the list, at most `max_skipped` places further.
    Batches keep their sizes, so ranks stay in step; and who stands in depends on the list alone, so a resumed run has
    the same one. In ImageNet's lists, which are sorted, it nearly always has the same class.

    Args:
        dataset: whose images these are.
        keys: which, and when.
        max_skipped: see above.
        buffer: where the images go; None, or one that is too small, for memory of their own.

    Raises:
        ImageDecodeError: an image cannot be read, and none of those that might have stood in for it.
    """
    rows = np.empty(len(keys), dtype=np.int64)
    images: Images = np.empty(0, dtype=dataset.image_dtype)
    skipped = []
    for place, key in enumerate(keys):
        rows[place], seen, problem = _see_or_stand_in(dataset, key, max_skipped)
        if place == 0:
            images = allot((len(keys), 3, *seen.pixels.shape[:2]), dataset.image_dtype, buffer)
        dataset.write(seen, images[place])
        if problem:
            skipped.append(problem)
    plan = dataset.mix_plan(len(keys), images.shape[-1], keys[0])
    if plan is not None and images.dtype == np.float32:
        plan.mix(images)
    return LoadedBatch(images, dataset.labels(rows), rows, tuple(skipped), plan)


def allot(shape: tuple[int, ...], dtype: DTypeLike, buffer: memoryview | None) -> Images:
    """Return an array at the beginning of a buffer, or, where that is too small, in memory of its own."""
    if buffer is None or np.dtype(dtype).itemsize * np.prod(shape) > len(buffer):
        return np.empty(shape, dtype=dtype)
    array: Images = np.frombuffer(buffer, dtype=dtype, count=int(np.prod(shape))).reshape(shape)
    return array


def _see_or_stand_in(dataset: ListDataset, key: Key, max_skipped: int) -> tuple[int, Seen, str]:
    """Return the row of an image, its pixels, and "", or those of another one and why."""
    problem = ""
    for offset in range(max_skipped + 1):
        row = (key.row + offset) % len(dataset)
        try:
            return row, dataset.see(key._replace(row=row)), problem
        except ImageDecodeError as error:
            problem = problem or str(error)
    raise ImageDecodeError(problem)
