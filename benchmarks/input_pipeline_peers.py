"""Runs one of the compared loaders: `python input_pipeline_peers.py PEER FOLDER WORKERS CORES`.

The process pins itself and its children to the first CORES available cores, creates its loader, and loads one epoch for
every line on its standard input. For each epoch, it prints the images/s between the first and the last batch, and the
CPU time per image in milliseconds, including its children. The peers can therefore alternate, and their start-up time
is not measured. A peer yields float32 batches in the training process.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

BATCH, SIZE = 64, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Epoch = Callable[[], Iterable[Any]]


def upstream(folder: Path, workers: int) -> Epoch:
    """Return PaddleClas' loader, imported from a checkout."""
    sys.path.insert(0, os.environ["PADDLECLAS_HOME"])
    importlib.import_module("ppcls.utils.logger").init_logger()
    build_dataloader = importlib.import_module("ppcls.data").build_dataloader
    config = {
        "Train": {
            "dataset": {
                "name": "ImageNetDataset",
                "image_root": str(folder),
                "cls_label_path": str(folder / "train_list.txt"),
                "transform_ops": transform_ops(),
            },
            "sampler": {
                "name": "DistributedBatchSampler",
                "batch_size": BATCH,
                "drop_last": False,
                "shuffle": True,
            },
            "loader": {"num_workers": workers, "use_shared_memory": True},
        }
    }
    loader = build_dataloader(config, "Train", importlib.import_module("paddle").CPUPlace())
    return lambda: loader


def plain(folder: Path, workers: int) -> Epoch:
    """Return a plain version of the same operators in Paddle's DataLoader. Replaces `upstream` without a checkout."""
    import cv2
    import numpy as np
    import paddle

    from resnet50_pipeline.imaging.operators import RandCropImage

    crop = RandCropImage(size=SIZE)
    draw = random.Random()
    scale, mean, std = np.float32(1 / 255), np.array(MEAN, "float32"), np.array(STD, "float32")

    def load(path: Path) -> Any:
        decoded: Any = cv2.imdecode(np.frombuffer(path.read_bytes(), dtype="uint8"), 1)
        pixels = decoded[:, :, ::-1]
        left, top, width, height = crop.draw_window(pixels.shape[1], pixels.shape[0], draw)
        pixels = cv2.resize(pixels[top : top + height, left : left + width], (SIZE, SIZE))
        if draw.randint(0, 1):
            pixels = cv2.flip(pixels, 1)
        return ((pixels.astype("float32") * scale - mean) / std).transpose(2, 0, 1)

    return _paddle_loader(paddle, folder, workers, load)


def pil(folder: Path, workers: int) -> Epoch:
    """Return Pillow and Paddle's transforms in Paddle's DataLoader, as in most training scripts."""
    import paddle
    from paddle.vision import transforms
    from PIL import Image

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return _paddle_loader(paddle, folder, workers, lambda path: transform(Image.open(path).convert("RGB")).numpy())


def _paddle_loader(paddle: Any, folder: Path, workers: int, load: Callable[[Path], Any]) -> Epoch:
    lines = (folder / "train_list.txt").read_text().splitlines()

    class Images(paddle.io.Dataset):
        def __len__(self) -> int:
            return len(lines)

        def __getitem__(self, row: int) -> Any:
            path, label = lines[row].split(" ")
            return load(folder / path), int(label)

    loader = paddle.io.DataLoader(
        Images(), batch_size=BATCH, shuffle=True, num_workers=workers, places=paddle.CPUPlace()
    )
    return lambda: loader


def dali(folder: Path, workers: int) -> Epoch:
    """Return DALI's CPU operators, which decode only the region of a random crop."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=workers, device_id=None, prefetch_queue_depth=2)
    def train() -> Any:
        encoded, labels = fn.readers.file(
            file_root=str(folder), file_list=str(folder / "train_list.txt"), random_shuffle=True, name="reader"
        )
        images = fn.decoders.image_random_crop(
            encoded,
            device="cpu",
            output_type=types.RGB,
            random_area=[0.08, 1.0],
            random_aspect_ratio=[3 / 4, 4 / 3],
        )
        images = fn.resize(images, size=[SIZE, SIZE], interp_type=types.INTERP_LINEAR, antialias=False)
        return fn.crop_mirror_normalize(
            images,
            mirror=fn.random.coin_flip(),
            dtype=types.FLOAT,
            output_layout="CHW",
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
        ), labels

    pipeline = train()
    pipeline.build()
    batches = pipeline.epoch_size("reader") // BATCH

    def epoch() -> Iterable[Any]:
        for _ in range(batches):
            images, labels = pipeline.run()
            yield images.as_array(), labels.as_array()

    return epoch


def ours(loader: dict[str, Any]) -> Callable[[Path, int], Epoch]:
    """Return a function that builds this project's loader with these settings of `DataLoader.Train.loader`."""

    def build(folder: Path, workers: int) -> Epoch:
        from resnet50_pipeline.imagenet.lists.files import read_list_file
        from resnet50_pipeline.recipe.data_loader import SplitConfig
        from resnet50_pipeline.trainer.data.dataset import ListDataset
        from resnet50_pipeline.trainer.data.loader import Loader
        from resnet50_pipeline.trainer.data.sampling import TrainBatches
        from resnet50_pipeline.trainer.share import Share

        list_file = folder / "train_list.txt"
        entries = read_list_file(list_file, class_num=1)
        split = SplitConfig.model_validate(
            {
                "dataset": {
                    "image_root": str(folder),
                    "cls_label_path": str(list_file),
                    "transform_ops": transform_ops(),
                },
                "sampler": {"batch_size": BATCH, "shuffle": True},
                "loader": {"num_workers": workers, **loader},
            }
        )
        batches = TrainBatches(len(entries), split, Share(1, range(1)), seed=1)
        loading = Loader(ListDataset(entries, split, seed=1), batches, split)

        def epoch() -> Iterable[Any]:
            batches.epoch += 1
            return loading

        return epoch

    return build


def packed(mode: str, decode: str = "whole") -> Callable[[Path, int], Epoch]:
    """Return a function that builds this project's loader for the shards in the folder named after the mode.

    The loader yields uint8 batches; the copy and the normalization run on the device.
    """

    def build(folder: Path, workers: int) -> Epoch:
        from resnet50_pipeline.imagenet.lists.files import read_list_file
        from resnet50_pipeline.recipe.data_loader import SplitConfig
        from resnet50_pipeline.trainer.data.dataset import ListDataset
        from resnet50_pipeline.trainer.data.sampling import TrainBatches
        from resnet50_pipeline.trainer.data.workers import LoaderProcesses
        from resnet50_pipeline.trainer.share import Share

        list_file = folder / "train_list.txt"
        entries = read_list_file(list_file, class_num=1)
        split = SplitConfig.model_validate(
            {
                "dataset": {
                    "image_root": "nowhere",
                    "cls_label_path": str(list_file),
                    "shards": str(folder / mode),
                    "transform_ops": transform_ops(),
                },
                "sampler": {"batch_size": BATCH, "shuffle": True},
                "loader": {"num_workers": workers, "normalize_on_device": True, "decode": decode},
            }
        )
        batches = TrainBatches(len(entries), split, Share(1, range(1)), seed=1)
        dataset = ListDataset(entries, split, seed=1)
        processes = LoaderProcesses(dataset, 0, workers, BATCH * dataset.largest_image_bytes())

        def epoch() -> Iterable[Any]:
            batches.epoch += 1
            return processes.load(batches)

        return epoch

    return build


PEERS: dict[str, Callable[[Path, int], Epoch]] = {
    "upstream": upstream,
    "plain": plain,
    "pil": pil,
    "dali": dali,
    "exact": ours({}),
    "uint8": ours({"normalize_on_device": True}),
    "region": ours({"decode": "region"}),
    "jpeg-256": packed("jpeg-256"),
    "jpeg-256-region": packed("jpeg-256", "region"),
    "raw-256": packed("raw-256"),
}


def transform_ops() -> list[dict[str, Any]]:
    """Return the operators of the reference recipe in the format of the YAML file."""
    return [
        {"DecodeImage": {"to_rgb": True, "channel_first": False}},
        {"RandCropImage": {"size": SIZE}},
        {"RandFlipImage": {"flip_code": 1}},
        {"NormalizeImage": {"scale": "1.0/255.0", "mean": list(MEAN), "std": list(STD), "order": ""}},
    ]


def measure_epoch(epoch: Epoch, batches: int) -> tuple[float, float]:
    """Load an epoch, and return images/s from the first to the last batch and milliseconds of CPU time per image."""
    for number, _ in enumerate(epoch(), 1):
        now = time.perf_counter()
        # Not for every batch: finding the children requires a walk over all processes, which takes a millisecond or
        # more.
        if number == 1:
            used = _cpu_seconds()
            started = time.perf_counter()
        elif number == batches:
            used = _cpu_seconds() - used
            seconds = now - started
    images = (batches - 1) * BATCH
    return images / seconds, 1000 * used / images


def _cpu_seconds() -> float:
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (this, *this.children(recursive=True)))


def main(peer: str, folder: str, workers: str, cores: str) -> None:
    """Load one epoch per input line and print the epoch's cost."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    epoch = PEERS[peer](Path(folder), int(workers))
    batches = len((Path(folder) / "train_list.txt").read_text().splitlines()) // BATCH
    print("measured ready", flush=True)
    for _ in sys.stdin:
        print("measured", *measure_epoch(epoch, batches), flush=True)


if __name__ == "__main__":
    import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib

    main(*sys.argv[1:])
