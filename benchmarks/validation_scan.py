"""The scan's targets: a structure walk, a header, a full and an incremental scan, each beside the plain loop.

Everything is warm: it lies in the page cache. Times are taken in turn with those of the loop that they are compared
with, so that both see the same machine, and the ratio is that of the medians.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from PIL import Image
from targets import Target

from resnet50_pipeline.imagenet.inspection_pool import InspectionTask, run_task
from resnet50_pipeline.imagenet.list_files import ListEntries, Split
from resnet50_pipeline.imagenet.scan import scan_dataset
from resnet50_pipeline.imagenet.walk import walk_splits

SMALL_FILES = 200_000
PHOTOS = 500
NAMES_A_PHOTO = 32
ROUNDS = 3
CORES = len(os.sched_getaffinity(0))


def measure(folder: Path, rounds: int = ROUNDS) -> list[Target]:
    """Return the scan's targets.

    Args:
        folder: a place for two data sets, 1 GB.
        rounds: how often each time is taken.
    """
    small = folder / "small"
    write_small_files(small)
    targets = measure_small_files(small, folder / "cache", rounds)
    shutil.rmtree(small)
    photos = folder / "photos"
    write_photos(photos)
    return [*targets, measure_header(photos, rounds), *catch_faults(photos), measure_full(photos, rounds)]


def time_in_turn(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """Return the median seconds of each function; one round that does not count comes first."""
    seconds: list[list[float]] = [[] for _ in functions]
    for number in range(rounds + 1):
        for taken, function in zip(seconds, functions, strict=True):
            start = time.perf_counter()
            function()
            if number:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def list_entries(root: Path) -> dict[Split, ListEntries]:
    """Return a list of all files of a data set, whose train classes are numbered in order of their folders."""
    paths = sorted(str(path.relative_to(root)) for path in root.glob("train/*/*"))
    folders = {folder: label for label, folder in enumerate(sorted({path.split("/")[1] for path in paths}))}
    labels = np.array([folders[path.split("/")[1]] for path in paths])
    return {"train": ListEntries(tuple(paths), labels), "val": ListEntries((), np.zeros(0, np.int64))}


def write_small_files(root: Path) -> None:
    """Write a thousand class folders of one tiny JPEG each, by two hundred names."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    (root / "val").mkdir(parents=True)
    for number in range(1000):
        folder = root / f"train/n{number:08d}"
        folder.mkdir(parents=True)
        for image in range(SMALL_FILES // 1000):
            (folder / f"n{number:08d}_{image}.JPEG").write_bytes(buffer.getvalue())
    time.sleep(2.5)  # only what was not changed a moment ago is kept for the next scan


def measure_small_files(root: Path, cache: Path, rounds: int) -> list[Target]:
    """Compare a structure scan with pathlib, and a second, incremental scan with the structure scan."""
    lists = list_entries(root)
    scan_dataset(root, lists, level="header", cache_dir=cache)

    def walk_with_pathlib() -> int:
        return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())

    loop, walk, structure, incremental = time_in_turn(
        rounds,
        walk_with_pathlib,
        lambda: walk_splits(root, ["train", "val"], CORES),
        lambda: scan_dataset(root, lists, level="structure"),
        lambda: scan_dataset(root, lists, level="header", cache_dir=cache),
    )
    print(
        f"{SMALL_FILES} small files, {CORES} cores: pathlib {loop:.2f} s, walk {walk:.2f} s, "
        f"structure scan with its manifest {structure:.2f} s, incremental scan {incremental:.2f} s"
    )
    return [
        Target("structure walk / pathlib loop, times as fast", loop / walk, 10, at_least=True),
        Target("incremental scan / structure scan, both with their manifests", incremental / structure, 1.3),
    ]


def write_photos(root: Path) -> None:
    """Write pictures of about ImageNet's size and detail, each by several names (hard links)."""
    random = np.random.default_rng(0)
    (root / "val").mkdir(parents=True)
    folder = root / "train/n00000000"
    folder.mkdir(parents=True)
    for number in range(PHOTOS):
        small = random.integers(0, 256, (94, 125, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.JPEG", quality=90)
        for name in range(1, NAMES_A_PHOTO):
            os.link(folder / f"{number}.JPEG", folder / f"{number}_{name}.JPEG")


def measure_header(root: Path, rounds: int) -> Target:
    """Compare header inspection with Pillow's, both in this process."""
    paths = list_entries(root)["train"].paths
    files = [f"{root}/{path}" for path in paths]

    def open_with_pillow() -> None:
        for file in files:
            with Image.open(file) as image:
                assert image.size

    def read_pages() -> None:
        for file, size in zip(files, sizes, strict=True):
            descriptor = os.open(file, os.O_RDONLY)
            os.pread(descriptor, 1024, 0)
            os.pread(descriptor, 2, size - 2)
            os.close(descriptor)

    sizes = [Path(file).stat().st_size for file in files]  # as the walk, which comes first in a scan, has them
    task = InspectionTask(str(root), paths, "header", is_walked=True, sizes=sizes)
    loop, header, floor = time_in_turn(rounds, open_with_pillow, lambda: run_task(task), read_pages)
    scale = 1e6 / len(files)
    print(
        f"header, microseconds an image in one process: Pillow's open {scale * loop:.1f}, ours {scale * header:.1f}, "
        f"of which open, two reads and close alone {scale * floor:.1f}"
    )
    return Target("header inspection / Pillow's open, times as fast on one core", loop / header, 8, at_least=True)


def catch_faults(root: Path) -> list[Target]:
    """Return how many of three kinds of faults, a hundred files each, the header inspection sees."""
    whole = (root / "train/n00000000/0.JPEG").read_bytes()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(whole)).save(buffer, "PNG")
    random = np.random.default_rng(1)
    faults = {
        "truncated": [whole[: random.integers(1, len(whole))] for _ in range(100)],
        "with trailing garbage": [whole + random.bytes(random.integers(1, 4096)) for _ in range(100)],
        "of another format": [buffer.getvalue()] * 100,
    }
    targets = []
    for name, files in faults.items():
        folder = root.parent / name
        folder.mkdir()
        for number, data in enumerate(files):
            (folder / f"{number}.JPEG").write_bytes(data)
        names = [f"{number}.JPEG" for number in range(100)]
        columns = run_task(InspectionTask(str(folder), names, "header", is_walked=True))
        _bytes, formats, _mode, _width, _height, _sha256, _exif, trailing, status, _problem = columns
        seen = {"truncated": np.array(status) == "undecodable", "of another format": np.array(formats) == "PNG"}
        count = int(seen.get(name, np.array(trailing) != 0).sum())
        targets.append(Target(f"files {name} seen by the header inspection, of 100", count, 100, at_least=True))
    return targets


def measure_full(root: Path, rounds: int) -> Target:
    """Compare a full scan with the same decoder over the same images in memory, both on all cores."""
    lists = list_entries(root)
    files = [root / path for path in lists["train"].paths]
    in_memory, scans = [], []
    for _ in range(rounds):
        in_memory.append(seconds_in_memory(files))
        start = time.perf_counter()
        scan_dataset(root, lists)
        scans.append(time.perf_counter() - start)
    alone, scan = statistics.median(in_memory), statistics.median(scans)
    print(
        f"full, {len(files)} images on {CORES} cores: decoder in memory {len(files) / alone:.0f} images/s, "
        f"scan {len(files) / scan:.0f} images/s"
    )
    return Target("full scan / decoder in memory, rate", alone / scan, 0.9, at_least=True)


def seconds_in_memory(files: Sequence[Path]) -> float:
    """Return how long all cores take to decode the files, which each of them has read before."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(CORES + 1)
    decoders = [
        context.Process(target=decode_in_memory, args=(files[number::CORES], barrier)) for number in range(CORES)
    ]
    for decoder in decoders:
        decoder.start()
    barrier.wait()
    start = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - start
    for decoder in decoders:
        decoder.join()
    return seconds


def decode_in_memory(files: Sequence[Path], barrier: Barrier) -> None:
    """Read the files, wait for the others, decode, and wait for the others."""
    images = [file.read_bytes() for file in files]
    barrier.wait()
    for data in images:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    barrier.wait()
