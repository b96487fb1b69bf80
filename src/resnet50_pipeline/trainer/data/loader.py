"""Loads a rank's batches with worker processes and copies them to the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import paddle

from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.trainer.data.batches import Batch, LoadedBatch, load_batch, mixed_labels
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.on_device import DeviceImages, mix_on_device
from resnet50_pipeline.trainer.data.sampling import EvalBatches, TrainBatches
from resnet50_pipeline.trainer.data.workers import LoaderProcesses


class Loader:
    """Iterates over a rank's batches. They are loaded by worker processes, or by the rank if `num_workers` is 0."""

    def __init__(self, dataset: ListDataset, batches: TrainBatches | EvalBatches, config: SplitConfig) -> None:
        self._dataset, self._batches, self._max_skipped = dataset, batches, config.loader.max_skipped_images
        batch_bytes = batches.batch_size * dataset.largest_image_bytes()
        is_sent_as_uint8 = dataset.image_dtype == np.uint8
        self._images = DeviceImages(dataset.normalize, 4 * batch_bytes if is_sent_as_uint8 else 0)
        self._processes: LoaderProcesses | None = None
        if config.loader.num_workers:
            slot_bytes = batch_bytes if config.loader.use_shared_memory else 0
            self._processes = LoaderProcesses(dataset, self._max_skipped, config.loader.num_workers, slot_bytes)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order.

        Raises:
            ImageDecodeError: if an image is unreadable, and there is no replacement or replacements are not allowed.
            LoaderProcessError: if a worker process was killed or failed.
        """
        loading = iter(self._load())
        while (loaded := next(loading, None)) is not None:
            batch = self._to_device(loaded)
            # A buffer is reused once nothing refers to it. Without both `del` statements, this frame would keep an
            # extra batch alive.
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
