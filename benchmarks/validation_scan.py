"""Compares a structure walk and header, full and incremental scans with plain loops. Part of `validation.py`.

All files are in the page cache. A scan and its reference loop alternate, so that both run under the same load; the
ratio is computed from the medians.
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
import simplejpeg
from PIL import Image
from targets import Target

from resnet50_pipeline.imagenet.lists.files import ListEntries, Split
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imagenet.scan.tasks import COLUMN_NAMES, InspectionTask, run_task
from resnet50_pipeline.imagenet.walk import walk_splits

SMALL_FILES = 200_000
PHOTOS = 500
NAMES_PER_PHOTO = 32
ROUNDS = 3
CORES = len(os.sched_getaffinity(0))


def measure(folder: Path, rounds: int = ROUNDS) -> list[Target]:
    """Return the scan's targets.

    Args:
        folder: an empty folder for two datasets of 1 GB in total.
        rounds: number of measurements of each time.
    """
    small = folder / "small"
    write_small_files(small)
    targets = measure_small_files(small, folder / "cache", rounds)
    shutil.rmtree(small)
    photos = folder / "photos"
    write_photos(photos)
    return [*targets, measure_header(photos, rounds), *measure_detected_faults(photos), measure_full(photos, rounds)]


def time_in_turn(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """Return the median seconds of each function, after a warm-up round."""
    seconds: list[list[float]] = [[] for _ in functions]
    for number in range(rounds + 1):
        for taken, function in zip(seconds, functions, strict=True):
            start = time.perf_counter()
            function()
            if number:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def list_entries(root: Path) -> dict[Split, ListEntries]:
    """Return list entries for all train files of a dataset. A label is the index of the sorted class folder."""
    paths = sorted(str(path.relative_to(root)) for path in root.glob("train/*/*"))
    folders = {folder: label for label, folder in enumerate(sorted({path.split("/")[1] for path in paths}))}
    labels = np.array([folders[path.split("/")[1]] for path in paths])
    return {"train": ListEntries(tuple(paths), labels), "val": ListEntries((), np.zeros(0, np.int64))}


def write_small_files(root: Path) -> None:
    """Write 1000 class folders, each with 200 copies of one tiny JPEG."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    (root / "val").mkdir(parents=True)
    for number in range(1000):
        folder = root / f"train/n{number:08d}"
        folder.mkdir(parents=True)
        for image in range(SMALL_FILES // 1000):
            (folder / f"n{number:08d}_{image}.JPEG").write_bytes(buffer.getvalue())
    time.sleep(2.5)  # the scan does not cache results for files that have changed within the last two seconds


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
        f"structure scan including its manifest {structure:.2f} s, incremental scan {incremental:.2f} s"
    )
    return [
        Target("speed of the structure walk / pathlib loop", loop / walk, 10, at_least=True),
        Target(
            "time of an incremental scan / structure scan, both including their manifests", incremental / structure, 1.3
        ),
    ]


def write_photos(root: Path) -> None:
    """Write images of about ImageNet's size and detail, each with several names (hard links)."""
    random = np.random.default_rng(0)
    (root / "val").mkdir(parents=True)
    folder = root / "train/n00000000"
    folder.mkdir(parents=True)
    for number in range(PHOTOS):
        small = random.integers(0, 256, (94, 125, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.JPEG", quality=90)
        for name in range(1, NAMES_PER_PHOTO):
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

    sizes = [Path(file).stat().st_size for file in files]  # a scan gets them from the walk
    task = InspectionTask(str(root), paths, "header", is_walked=True, sizes=sizes)
    loop, header, floor = time_in_turn(rounds, open_with_pillow, lambda: run_task(task), read_pages)
    scale = 1e6 / len(files)
    print(
        f"header, microseconds per image in one process: Pillow's open {scale * loop:.1f}, ours {scale * header:.1f} "
        f"({scale * floor:.1f} for open, two reads and close)"
    )
    return Target("speed of the header inspection / Pillow's open, one core", loop / header, 8, at_least=True)


def measure_detected_faults(root: Path) -> list[Target]:
    """Return how many of 100 files with a fault the header inspection detects, for each of three kinds of faults."""
    whole = (root / "train/n00000000/0.JPEG").read_bytes()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(whole)).save(buffer, "PNG")
    random = np.random.default_rng(1)
    faults = {
        "truncated": [whole[: random.integers(1, len(whole))] for _ in range(100)],
        "with trailing bytes": [whole + random.bytes(int(random.integers(1, 4096))) for _ in range(100)],
        "with a wrong format": [buffer.getvalue()] * 100,
    }
    targets = []
    for name, files in faults.items():
        folder = root.parent / name
        folder.mkdir()
        for number, data in enumerate(files):
            (folder / f"{number}.JPEG").write_bytes(data)
        names = [f"{number}.JPEG" for number in range(100)]
        found = run_task(InspectionTask(str(folder), names, "header", is_walked=True))
        columns = dict(zip(COLUMN_NAMES, found, strict=True))
        detected = {
            "truncated": np.array(columns["status"]) == "undecodable",
            "with trailing bytes": np.array(columns["trailing_bytes"]) != 0,
            "with a wrong format": np.array(columns["format"]) == "PNG",
        }
        count = int(detected[name].sum())
        targets.append(Target(f"files {name} detected by header, of 100", count, 100, at_least=True))
    return targets


def measure_full(root: Path, rounds: int) -> Target:
    """Compare a full scan with the same decoder on the same images in memory, both on all cores."""
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
    """Return the seconds that all cores take to decode the files, which each process already has in memory."""
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
    """Read the files, wait for the other processes, decode, and wait for them again."""
    images = [file.read_bytes() for file in files]
    barrier.wait()
    for data in images:
        simplejpeg.decode_jpeg(data, "BGR", strict=True)
    barrier.wait()
