"""Loads train batches with NVIDIA DALI, which decodes, crops and normalizes images on the GPU.

DALI generates no random numbers. The rank reads the files, samples each image's crop and flip with the image's own
generator, as `RandCropImage` and `RandFlipImage` do, and passes the bytes, crop and flip to DALI. Images therefore have
the same crops with and without DALI, and runs resume exactly. Only the decoder and the rounding of the resize differ.

DALI is imported only when a `DaliLoader` is created.
"""

from __future__ import annotations

import ctypes
import importlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError, TrainingConfigError
from resnet50_pipeline.imaging.decode import decode_image, find_plain_jpeg_header
from resnet50_pipeline.imaging.operators import (
    DecodeImage,
    NormalizeImage,
    RandCropImage,
    RandFlipImage,
    ToCHWImage,
)
from resnet50_pipeline.imaging.region import IntactImages
from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.data.batches import Batch, mixed_labels
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.loader import Loader
from resnet50_pipeline.trainer.data.on_device import mix_on_device
from resnet50_pipeline.trainer.data.sampling import Key, TrainBatches

# Number of batches to read ahead, and number of batches that DALI processes or holds at a time.
_READ_AHEAD, _QUEUE = 3, 2
_INTERPOLATIONS = {None: "INTERP_LINEAR", "bilinear": "INTERP_LINEAR", "bicubic": "INTERP_CUBIC"}


class _EncodedImage(NamedTuple):
    """DALI's input for one image. `window` is top, left, height, width after EXIF rotation."""

    row: int
    data: bytes
    window: tuple[int, int, int, int]
    is_mirrored: bool
    problem: str


def build_train_loader(
    dataset: ListDataset, batches: TrainBatches, config: TrainingConfig, device: str
) -> Loader | DaliLoader:
    """Return a loader for a rank's train batches. If `Global.use_dali` is true, the loader is a `DaliLoader`.

    Args:
        dataset: dataset of the training images.
        batches: sampler that selects the rank's batches.
        config: configuration of the run.
        device: Paddle's name for the rank's device, such as `gpu:2`.

    Raises:
        TrainingConfigError: if `Global.use_dali` is true, but DALI is not installed or does not support the device or
            the transform.
    """
    split = config.DataLoader.Train
    if not config.Global.use_dali:
        return Loader(dataset, batches, split)
    return DaliLoader(dataset, batches, split, require_cuda(device))


class DaliLoader:
    """Loads a rank's train batches like `Loader`, but with DALI. Supports only crop, flip and normalization."""

    def __init__(self, dataset: ListDataset, batches: TrainBatches, config: SplitConfig, device_id: int | None) -> None:
        """Check the transform and start the reader threads.

        Args:
            dataset: dataset of the training images.
            batches: sampler that selects the rank's batches.
            config: `DataLoader.Train`. `loader.num_workers` sets both the number of reader threads and the number of
                DALI's threads.
            device_id: index of the GPU among the GPUs visible to this process, or None for DALI's CPU backend (in
                tests).

        Raises:
            TrainingConfigError: if DALI is not installed or does not support the transform.
        """
        self._dali = require_dali()
        self._dataset, self._batches, self._config, self._device_id = dataset, batches, config, device_id
        self._crop, self._normalize = _read_transform(config)
        self._tiff = any(
            isinstance(op.operator, DecodeImage) and op.operator.tiff for op in config.dataset.transform_ops
        )
        self._intact = IntactImages(len(dataset))
        self._threads = max(1, config.loader.num_workers)
        self._readers = ThreadPoolExecutor(self._threads, thread_name_prefix="dali-reader")
        self._ahead: Iterator[list[Key]] = iter(())
        self._reading: deque[tuple[Key, list[Future[_EncodedImage]]]] = deque()
        self._in_flight: deque[tuple[Key, list[_EncodedImage]]] = deque()
        self._side, self._pipeline, self._is_fresh = 0, None, False
        self._copied: Any = None

    def __iter__(self) -> Iterator[Batch]:
        self._ahead = iter(self._batches)
        self._reading.clear()
        self._in_flight.clear()
        pipeline = self._pipeline_for_epoch(self._batches.epoch)
        self._is_fresh = False
        pipeline.schedule_run()  # the first call fills DALI's queue by calling `_next_inputs` once per batch
        while True:
            try:
                (output,) = pipeline.share_outputs()
            except StopIteration:
                break
            except (RuntimeError, IndexError) as error:
                names = ", ".join(str(image.row) for image in self._in_flight[0][1])
                raise ImageDecodeError(
                    f"DALI cannot decode one of the images in rows {names} (0-based) of the train list: {error}"
                ) from error
            yield self._to_batch(output, *self._in_flight.popleft())
            if self._copied is not None:
                # DALI reuses its buffer after `release_outputs`, so wait until the copy from it is complete. In
                # Paddle's stream, the copy comes after the previous step. The step that uses the copy is also queued by
                # now, so the GPU has work during the wait.
                self._copied.synchronize()
            pipeline.release_outputs()
            pipeline.schedule_run()
        pipeline.reset()
        self._is_fresh = True

    def _next_inputs(self) -> tuple[list[NDArray[np.generic]], ...]:
        """Return DALI's inputs for the next batch, and start reading later batches.

        Raises:
            StopIteration: at the end of the epoch, as DALI expects.
        """
        while len(self._reading) < _READ_AHEAD and (keys := next(self._ahead, None)):
            self._reading.append((keys[0], [self._readers.submit(self._read, key) for key in keys]))
        if not self._reading:
            raise StopIteration
        first, futures = self._reading.popleft()
        images = [future.result() for future in futures]
        self._in_flight.append((first, images))
        return (
            [np.frombuffer(image.data, dtype=np.uint8) for image in images],
            [np.array(image.window[:2], dtype=np.int32) for image in images],
            [np.array(image.window[2:], dtype=np.int32) for image in images],
            [np.array(image.is_mirrored, dtype=np.int32) for image in images],
        )

    def _read(self, key: Key) -> _EncodedImage:
        """Read an image, or its replacement (see `load_batch`), and sample its crop and flip."""
        problem = ""
        for offset in range(self._config.loader.max_skipped_images + 1):
            row = (key.row + offset) % len(self._dataset)
            try:
                data = self._dataset.read(row)
                try:
                    data, width, height = self._prepare(row, data)
                except ImageDecodeError as error:
                    raise self._dataset.name_error(row, error) from error
            except ImageDecodeError as error:
                problem = problem or str(error)
                continue
            draw = self._dataset.draw(key._replace(row=row))
            left, top, crop_width, crop_height = self._crop.draw_window(width, height, draw)
            mirrored = any(isinstance(op.operator, RandFlipImage) for op in self._config.dataset.transform_ops)
            is_mirrored = mirrored and RandFlipImage().draw_flip(draw)
            return _EncodedImage(row, data, (top, left, crop_height, crop_width), is_mirrored, problem)
        raise ImageDecodeError(problem)

    def _prepare(self, row: int, data: bytes) -> tuple[bytes, int, int]:
        """Return the bytes for DALI's decoder, and the width and height of the decoded image.

        DALI does not report damaged images. It also supports a different set of formats and decodes some of them
        differently. To detect damage, this method therefore decodes a plain JPEG in full when this process first reads
        it. Any other image is decoded here and passed to DALI as a BMP.

        Raises:
            ImageDecodeError: if the image cannot be decoded.
        """
        header = find_plain_jpeg_header(data)
        if header is None:
            pixels = decode_image(data, tiff=self._tiff)
            return cv2.imencode(".bmp", pixels)[1].tobytes(), pixels.shape[1], pixels.shape[0]
        if not self._intact.contains(row, data):
            decode_image(data)
            self._intact.add(row, data)
        return data, header.width, header.height

    def _pipeline_for_epoch(self, epoch: int) -> Any:
        """Return DALI's pipeline for the crop size of an epoch. Each size needs its own pipeline."""
        progress = self._config.dataset.progressive_resize
        side = self._crop.size if progress is None else progress.size_of(epoch, self._crop.size)
        if side != self._side or not self._is_fresh:  # a pipeline stopped mid-epoch cannot be reset
            self._side, self._pipeline = side, self._build(side)
        return self._pipeline

    def _build(self, side: int) -> Any:
        fn, types = self._dali.fn, self._dali.types
        pipeline = self._dali.Pipeline(
            batch_size=self._batches.batch_size,
            num_threads=self._threads,
            device_id=self._device_id,
            prefetch_queue_depth=_QUEUE,
        )
        on_gpu = self._device_id is not None
        with pipeline:
            encoded, anchor, shape, mirror = fn.external_source(
                source=self._next_inputs,
                num_outputs=4,
                batch=True,
                dtype=[types.UINT8, types.INT32, types.INT32, types.INT32],
                ndim=[1, 1, 1, 0],
            )
            images = fn.decoders.image_slice(
                encoded,
                anchor,
                shape,
                axis_names="HW",
                normalized_anchor=False,
                normalized_shape=False,
                device="mixed" if on_gpu else "cpu",
                output_type=types.RGB,
            )
            images = fn.resize(
                images,
                size=[side, side],
                interp_type=getattr(types, _INTERPOLATIONS[self._crop.interpolation]),
                antialias=self._crop.backend == "pil",
            )
            pipeline.set_outputs(
                fn.crop_mirror_normalize(
                    images,
                    mirror=mirror,
                    dtype=types.FLOAT,
                    output_layout="CHW",
                    mean=[255 * value for value in self._normalize.mean],
                    std=[255 * value for value in self._normalize.std],
                )
            )
        pipeline.build()
        return pipeline

    def _to_batch(self, output: Any, first: Key, images: Sequence[_EncodedImage]) -> Batch:
        pixels = paddle.empty([len(images), 3, self._side, self._side], dtype="float32")
        self._copied = _copy(output.as_tensor(), pixels)
        rows = np.array([image.row for image in images], dtype=np.int64)
        labels = self._dataset.labels(rows)
        plan = self._dataset.mix_plan(len(images), self._side, first)
        return Batch(
            images=pixels if plan is None else mix_on_device(pixels, plan),
            labels=paddle.to_tensor(labels),
            index=paddle.to_tensor(rows),
            mixed=None if plan is None else mixed_labels(labels, plan),
            skipped=tuple(image.problem for image in images if image.problem),
        )


def require_dali() -> Any:
    """Return the `nvidia.dali` module.

    Raises:
        TrainingConfigError: if the module cannot be imported.
    """
    try:
        return importlib.import_module("nvidia.dali")
    except ImportError as error:
        raise TrainingConfigError(
            f"Global.use_dali: NVIDIA DALI cannot be imported ({error}). Run `pip install nvidia-dali-cuda120` "
            f"(nvidia-dali-cuda110 for a CUDA 11 build of Paddle), or set training.loader.use_dali: false"
        ) from error


def require_cuda(device: str) -> int:
    """Return the GPU number in a Paddle device name, such as 2 for `gpu:2`.

    Raises:
        TrainingConfigError: if the device is not a CUDA device.
    """
    kind, _, number = device.partition(":")
    if kind != "gpu" or not paddle.is_compiled_with_cuda():
        raise TrainingConfigError(
            f"Global.use_dali: DALI needs an NVIDIA GPU and a CUDA build of Paddle, but this rank uses {device}. Set "
            f"training.loader.use_dali: false"
        )
    return int(number or 0)


def _copy(source: Any, target: paddle.Tensor) -> Any:
    """Copy DALI's tensor to Paddle's tensor.

    Return an event that marks the end of the copy, or None if the copy is already complete. On a GPU, the copy must run
    in Paddle's stream: Paddle allocates memory in stream order, so earlier work in the stream may still be using the
    target's memory for another tensor.
    """
    address = ctypes.c_void_p(target.data_ptr())
    if not target.place.is_gpu_place():
        source.copy_to_external(address)
        return None
    stream = paddle.device.cuda.current_stream()
    source.copy_to_external(address, ctypes.c_void_p(stream.cuda_stream), True)
    copied = paddle.device.cuda.Event()
    copied.record(stream)
    return copied


def _read_transform(config: SplitConfig) -> tuple[RandCropImage, NormalizeImage]:
    """Return the crop and the normalization that DALI must perform.

    Raises:
        TrainingConfigError: if the transform has other operators.
    """
    operators = [op.operator for op in config.dataset.transform_ops]
    known = (DecodeImage, RandCropImage, RandFlipImage, NormalizeImage, ToCHWImage)
    unsupported = [type(operator).__name__ for operator in operators if not isinstance(operator, known)]
    crop, normalize = config.dataset.crop, next((op for op in operators if isinstance(op, NormalizeImage)), None)
    if unsupported or crop is None or normalize is None or crop.interpolation not in _INTERPOLATIONS:
        raise TrainingConfigError(
            f"Global.use_dali supports only RandCropImage (bilinear or bicubic) and RandFlipImage between decoding and "
            f"normalization; this transform has {', '.join(type(operator).__name__ for operator in operators)}. "
            f"Set training.loader.use_dali: false"
        )
    return crop, normalize
