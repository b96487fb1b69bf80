"""Train batches that NVIDIA DALI decodes, crops and normalizes on the GPU, in the place of loader processes.

What is random stays what it is: this process reads the files and draws windows and mirrors from each image's own
numbers, as `RandCropImage` and `RandFlipImage` do; DALI gets them as inputs and draws nothing. So an image has the
same crop with DALI as without, and a run resumes exactly. Only the decoder and the rounding of resizing differ.
Nothing of DALI is imported before a loader is made.
"""

from __future__ import annotations

import ctypes
import importlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import paddle
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import ImageDecodeError, TrainingConfigError
from resnet50_pipeline.imaging.decode import read_size, require_decodable
from resnet50_pipeline.imaging.operators import (
    DecodeImage,
    NormalizeImage,
    RandCropImage,
    RandFlipImage,
    ToCHWImage,
)
from resnet50_pipeline.trainer.data import Batch, ListDataset, Loader, mixed_labels
from resnet50_pipeline.trainer.on_device import mix_on_device
from resnet50_pipeline.trainer.sampling import Key, TrainBatches
from resnet50_pipeline.training_config import SplitConfig, TrainingConfig

# Batches whose files are read ahead, and batches that DALI works on or holds at a time.
_READ_AHEAD, _QUEUE = 3, 2
_INTERPOLATIONS = {None: "INTERP_LINEAR", "bilinear": "INTERP_LINEAR", "bicubic": "INTERP_CUBIC"}


class _Image(NamedTuple):
    """What DALI is given for one image; `window` is top, left, height, width in the picture as it is seen."""

    row: int
    data: bytes
    window: tuple[int, int, int, int]
    is_mirrored: bool
    problem: str


def build_train_loader(
    dataset: ListDataset, batches: TrainBatches, config: TrainingConfig, device: str
) -> Loader | DaliLoader:
    """Return what loads the train batches of a rank on a device, by Paddle's name, as `gpu:2`.

    Raises:
        TrainingConfigError: DALI is asked for and cannot be had.
    """
    split = config.DataLoader.Train
    if not config.Global.use_dali:
        return Loader(dataset, batches, split)
    return DaliLoader(dataset, batches, split, require_cuda(device))


class DaliLoader:
    """The train batches of one rank; as `Loader`, for transforms of crop, flip and normalisation."""

    def __init__(self, dataset: ListDataset, batches: TrainBatches, config: SplitConfig, device_id: int | None) -> None:
        """Prepare the batches.

        Args:
            dataset: of the train images.
            batches: who is seen when.
            config: `DataLoader.Train`; `loader.num_workers` is the number of threads that read, and of DALI's.
            device_id: the GPU, as this process counts them; None computes on the CPU, for tests.

        Raises:
            TrainingConfigError: DALI is not installed, or cannot do what the transform asks for.
        """
        self._dali = require_dali()
        self._dataset, self._batches, self._config, self._device_id = dataset, batches, config, device_id
        self._crop, self._normalize = _read_transform(config)
        self._threads = max(1, config.loader.num_workers)
        self._readers = ThreadPoolExecutor(self._threads, thread_name_prefix="dali-reader")
        self._ahead: Iterator[list[Key]] = iter(())
        self._reading: deque[tuple[Key, list[Future[_Image]]]] = deque()
        self._in_flight: deque[tuple[Key, list[_Image]]] = deque()
        self._side, self._pipeline, self._is_fresh = 0, None, False
        self._copied: Any = None

    def __iter__(self) -> Iterator[Batch]:
        self._ahead = iter(self._batches)
        self._reading.clear()
        self._in_flight.clear()
        pipeline = self._pipeline_of(self._batches.epoch)
        self._is_fresh = False
        pipeline.schedule_run()  # the first one fills the queue: DALI calls `_next_inputs` for every batch of it
        while True:
            try:
                (output,) = pipeline.share_outputs()
            except StopIteration:
                break
            except (RuntimeError, IndexError) as error:
                names = ", ".join(str(image.row) for image in self._in_flight[0][1])
                raise ImageDecodeError(
                    f"DALI cannot decode an image among rows {names} of the list: {error}"
                ) from error
            yield self._take(output, *self._in_flight.popleft())
            if self._copied is not None:
                # The copy stands in Paddle's queue behind the step before it. By now the step that uses it is queued as
                # well, so the GPU has work while this waits; then DALI may fill the buffer anew.
                self._copied.synchronize()
            pipeline.release_outputs()
            pipeline.schedule_run()
        pipeline.reset()
        self._is_fresh = True

    def _next_inputs(self) -> tuple[list[NDArray[np.generic]], ...]:
        """Return what DALI is given for the next batch, reading ahead; StopIteration ends the epoch."""
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

    def _read(self, key: Key) -> _Image:
        """Read an image, or the next readable one of the list (see `load_batch`), and draw its window."""
        problem = ""
        for offset in range(self._config.loader.max_skipped_images + 1):
            row = (key.row + offset) % len(self._dataset)
            try:
                data = self._dataset.read(row)
                try:
                    require_decodable(data)
                    width, height = read_size(data)
                except ImageDecodeError as error:
                    raise self._dataset.explain(row, error) from error
            except ImageDecodeError as error:
                problem = problem or str(error)
                continue
            draw = self._dataset.draw(key._replace(row=row))
            left, top, crop_width, crop_height = self._crop.draw_window(width, height, draw)
            mirrored = any(isinstance(op.operator, RandFlipImage) for op in self._config.dataset.transform_ops)
            is_mirrored = mirrored and RandFlipImage().draw_flip(draw)
            return _Image(row, data, (top, left, crop_height, crop_width), is_mirrored, problem)
        raise ImageDecodeError(problem)

    def _pipeline_of(self, epoch: int) -> Any:
        """Return the pipeline for the crops of an epoch; sizes change rarely, and a pipeline has one."""
        progress = self._config.dataset.progressive_resize
        side = self._crop.size if progress is None else progress.size_of(epoch, self._crop.size)
        if side != self._side or not self._is_fresh:  # one that was left in mid-epoch is of no more use
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

    def _take(self, output: Any, first: Key, images: Sequence[_Image]) -> Batch:
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
    """Return a namespace with `Pipeline`, `fn` and `types` of DALI.

    Raises:
        TrainingConfigError: it is not installed.
    """
    try:
        return importlib.import_module("nvidia.dali")
    except ImportError as error:
        raise TrainingConfigError(
            f"Global.use_dali: NVIDIA DALI cannot be imported ({error}); `pip install nvidia-dali-cuda120` (-cuda110 "
            f"for a Paddle of CUDA 11), or set training.loader.use_dali: false"
        ) from error


def require_cuda(device: str) -> int:
    """Return the number of the GPU in Paddle's name of a device, as `gpu:2`.

    Raises:
        TrainingConfigError: the device is no CUDA device.
    """
    kind, _, number = device.partition(":")
    if kind != "gpu" or not paddle.is_compiled_with_cuda():
        raise TrainingConfigError(
            f"Global.use_dali: DALI works on NVIDIA's GPUs, and this rank is on {device}; set "
            f"training.loader.use_dali: false"
        )
    return int(number or 0)


def _copy(source: Any, target: paddle.Tensor) -> Any:
    """Copy DALI's tensor into Paddle's; return the event of its end, None where it has ended.

    On a GPU in Paddle's own stream, for the memory may have been another tensor's a moment ago.
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
    """Return the operators that DALI is set by.

    Raises:
        TrainingConfigError: there are others that it is not set to do.
    """
    operators = [op.operator for op in config.dataset.transform_ops]
    known = (DecodeImage, RandCropImage, RandFlipImage, NormalizeImage, ToCHWImage)
    strange = [type(operator).__name__ for operator in operators if not isinstance(operator, known)]
    crop, normalize = config.dataset.crop, next((op for op in operators if isinstance(op, NormalizeImage)), None)
    if strange or crop is None or normalize is None or crop.interpolation not in _INTERPOLATIONS:
        raise TrainingConfigError(
            f"Global.use_dali takes RandCropImage (bilinear or bicubic) and RandFlipImage between decoding and "
            f"normalizing; here are {', '.join(type(operator).__name__ for operator in operators)}; set "
            f"training.loader.use_dali: false"
        )
    return crop, normalize
