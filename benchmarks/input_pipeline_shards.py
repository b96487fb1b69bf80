"""Measures packed shards: throughput, reads with a cold cache, and opening ImageNet's. Part of `input_pipeline.py`.

The throughput is measured for uint8 batches delivered to the rank, on one core and on two, alternating with PaddleClas'
operators on the same photographs (see `input_pipeline_loose.py`).

Cold means that neither files nor folders are in the page cache. If the process is root, all caches are dropped;
otherwise, only the caches of the files are dropped. Loose files and shards contain the same photographs and are read in
the same random order, alternating.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from input_pipeline_loose import take_turns
from input_pipeline_photographs import write_photographs
from targets import Target, peak_memory_bytes

from resnet50_pipeline.files import digest_file, write_text
from resnet50_pipeline.imagenet.lists.files import ListEntries, parse_list
from resnet50_pipeline.imagenet.shards.build import SplitToPack, build_shard_set, resolve_packing
from resnet50_pipeline.imagenet.shards.shard_set import (
    INDEX_DTYPE,
    Shard,
    ShardedSplit,
    ShardMode,
    ShardSet,
    digest_list,
)
from resnet50_pipeline.imagenet.shards.source import open_images
from resnet50_pipeline.imagenet.shards.task import PackedImages
from resnet50_pipeline.imaging.region import can_decode_regions
from resnet50_pipeline.parameters import ShardParameters

RATE_IMAGES, RATES = 1920, {"jpeg-256": 8.0, "raw-256": 30.0}
COLD_IMAGES, CLASSES, COLD_ROUNDS = 3000, 20, 5
IMAGENET_IMAGES, IMAGENET_SHARDS, IMAGE_BYTES = 1_281_167, 1000, 110_000
OPEN_SECONDS, OPEN_MEGABYTES = 3.0, 300.0
COLD_RATIO = 1.0


def measure(folder: Path) -> list[Target]:
    """Return the targets for throughput, for cold reads and for opening ImageNet's shards."""
    return [
        *measure_rates(folder / "rates"),
        measure_cold_reads(folder / "cold"),
        *measure_opening(folder / "imagenet"),
    ]


def measure_rates(folder: Path) -> list[Target]:
    """Return the throughput target for each mode, relative to PaddleClas' operators on loose files."""
    folder.mkdir()
    entries = parse_list(write_photographs(folder, RATE_IMAGES).read_bytes(), 1)
    for mode in ("jpeg-256", "raw-256"):
        pack_photographs(folder, entries, folder / mode, mode)
    reference = "upstream" if "PADDLECLAS_HOME" in os.environ else "plain"
    region = ["jpeg-256-region"] if can_decode_regions() else []
    targets = []
    for cores in (1, 2):
        if len(os.sched_getaffinity(0)) < cores:
            continue
        found = take_turns([reference, *RATES, *region], folder, cores)
        cores_text = f"{cores} core{'s' if cores > 1 else ''}"
        for peer, costs in found.items():
            rate = statistics.median(cost.images_per_second for cost in costs)
            cpu = statistics.median(cost.cpu_milliseconds for cost in costs)
            print(f"shards, {cores_text}: {peer} {rate:.0f} images/s, {cpu:.3f} ms of CPU time per image")
        for mode, bound in RATES.items():
            # With nvImageCodec, users decode only the region of the crop; the pixels are the same.
            best = found.get(f"{mode}-region", found[mode])
            ratio = statistics.median(
                one.images_per_second / other.images_per_second
                for one, other in zip(best, found[reference], strict=True)
            )
            targets.append(Target(f"{mode} / {reference}, images/s on {cores_text}", ratio, bound, at_least=True))
    return targets


def pack_photographs(root: Path, entries: ListEntries, folder: Path, mode: ShardMode, **parameters: int) -> None:
    """Pack the listed images below `root` into a shard set in `folder`."""
    count = len(entries)
    files = [str(root / path) for path in entries.paths]
    images = PackedImages(list(entries.paths), files, [0] * count, [-1] * count, [""] * count)
    packing = resolve_packing(mode, ShardParameters(**parameters))
    build_shard_set(folder, {"train": SplitToPack(entries, images)}, packing, images_per_shard=2000)


def measure_cold_reads(folder: Path) -> Target:
    """Return the target for reading all images in random order: the time with shards divided by the time with files."""
    photographs = folder / "photographs"
    photographs.mkdir(parents=True)
    write_photographs(photographs, COLD_IMAGES)
    sources = sorted(photographs.glob("train/*/*.JPEG"))
    lines = []
    for number in range(COLD_IMAGES):
        path = folder / "train" / f"n{number % CLASSES:08d}" / f"{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sources[number % len(sources)].read_bytes())
        lines.append(f"{path.relative_to(folder).as_posix()} {number % CLASSES}\n")
    entries = parse_list("".join(sorted(lines)).encode(), CLASSES)
    pack_photographs(folder, entries, folder / "shards", "original")
    os.sync()
    loose, shards = open_images(entries, folder, None), open_images(entries, folder, folder / "shards")
    seconds = _read_in_turn([loose.read, shards.read], [folder / "train", folder / "shards"])
    print(f"cold: loose {COLD_IMAGES / seconds[0]:.0f} images/s, shards {COLD_IMAGES / seconds[1]:.0f} images/s")
    return Target("time of random cold reads, shards / loose", seconds[1] / seconds[0], COLD_RATIO)


def _read_in_turn(readers: Sequence[Callable[[int], bytes]], folders: Sequence[Path]) -> list[float]:
    seconds: list[list[float]] = [[] for _ in readers]
    for number in range(COLD_ROUNDS):
        rows = list(range(COLD_IMAGES))
        random.Random(number).shuffle(rows)
        for taken, read in zip(seconds, readers, strict=True):
            for folder in folders:
                drop_from_page_cache(folder)
            started = time.perf_counter()
            for row in rows:
                read(row)
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def drop_from_page_cache(folder: Path) -> None:
    """Drop the files below a folder from the page cache; if the process is root, also drop folders and inodes."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3\n")


def measure_opening(folder: Path) -> list[Target]:
    """Return the targets for opening ImageNet's train list and shards in a separate process: seconds and memory."""
    write_imagenet(folder)
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], capture_output=True, text=True, check=True, env=os.environ
    )
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"opening {IMAGENET_IMAGES} entries: {found}")
    return [
        Target(f"seconds to open {IMAGENET_IMAGES} entries", found["seconds"], OPEN_SECONDS),
        Target("memory of a worker for them, MB", found["megabytes"], OPEN_MEGABYTES),
    ]


def write_imagenet(folder: Path) -> None:
    """Write a list of ImageNet's size, and a shard set with sparse tar files for the list."""
    names = (
        f"train/n{number * IMAGENET_SHARDS // IMAGENET_IMAGES:08d}/"
        f"n{number * IMAGENET_SHARDS // IMAGENET_IMAGES:08d}_{number}.JPEG "
        f"{number * IMAGENET_SHARDS // IMAGENET_IMAGES}\n"
        for number in range(IMAGENET_IMAGES)
    )
    (folder / "shards" / "train").mkdir(parents=True)
    (folder / "train_list.txt").write_text("".join(names))
    entries = parse_list((folder / "train_list.txt").read_bytes(), IMAGENET_SHARDS)
    index = np.zeros(IMAGENET_IMAGES, dtype=INDEX_DTYPE)
    index["shard"] = index["label"] = entries.labels
    index["size"] = IMAGE_BYTES
    first = np.searchsorted(entries.labels, np.arange(IMAGENET_SHARDS))
    index["offset"] = (np.arange(IMAGENET_IMAGES) - first[entries.labels]) * IMAGE_BYTES
    np.save(folder / "shards" / "train.npy", index)
    shards = []
    for number, images in enumerate(np.bincount(entries.labels).tolist()):
        path = folder / "shards" / "train" / f"{number:04d}-n{number:08d}-000.tar"
        path.touch()
        os.truncate(path, images * IMAGE_BYTES)
        name = f"train/{path.name}"
        shards.append(Shard(name=name, bytes=images * IMAGE_BYTES, images=images, source=f"{number:064d}"))
    split = ShardedSplit(
        images=IMAGENET_IMAGES,
        list_digest=digest_list(entries),
        index="train.npy",
        index_digest=digest_file(folder / "shards" / "train.npy"),
        shards=tuple(shards),
    )
    packing = resolve_packing("original", ShardParameters())
    write_text(folder / "shards" / "shard_set.json", ShardSet(packing=packing, splits={"train": split}).to_json())


def open_imagenet(folder: Path) -> None:
    """Open the list and the shards, read from every shard, and print the time and the memory, excluding imports."""
    from resnet50_pipeline.imagenet.lists.files import read_list_file

    before = resident_bytes()
    started = time.perf_counter()
    entries = read_list_file(folder / "train_list.txt", IMAGENET_SHARDS)
    source = open_images(entries, folder, folder / "shards")
    seconds = time.perf_counter() - started
    draw = random.Random(0)
    for row in draw.sample(range(IMAGENET_IMAGES), 20_000):
        source.read(row)
    megabytes = (resident_bytes() - before) / 1e6
    peak = peak_memory_bytes() / 1e6
    print(json.dumps({"seconds": round(seconds, 2), "megabytes": round(megabytes), "peak_with_imports": round(peak)}))


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes, including the mapped index."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    open_imagenet(Path(sys.argv[1]))
