"""Measures the check of ImageNet's images before training, also on another machine. Part of `validation.py`.

The dataset has as many file names as ILSVRC2012. They are hard links to a few small files, because 1.33 million
separate files would need 5 GB. The manifest and the scan cache are those that a full scan would write. All folders are
in the page cache.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from targets import Target

from resnet50_pipeline.imagenet.identities import ImageIdentities, find_other_sizes
from resnet50_pipeline.imagenet.image_check import require_validated_images
from resnet50_pipeline.imagenet.lists.files import SPLITS, ListEntries, Split, read_list_file
from resnet50_pipeline.imagenet.scan.cache import ScanCache
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imagenet.walk import walk_splits

CLASSES = 1000
IMAGES_PER_CLASS: dict[Split, int] = {"train": 1281, "val": 50}
ROUNDS = 3
# A bound for CPU time, on which other processes have little effect. Half a minute is short compared with an
# epoch of the reference recipe, which takes an hour.
MAX_CPU_SECONDS = 30.0


def measure(folder: Path) -> list[Target]:
    """Create 1,331,000 images in an empty folder, and return the targets."""
    root, results = folder / "imagenet", folder / "results"
    digests = write_links(root)
    lists = {split: read_list_file(root / f"{split}_list.txt", CLASSES) for split in SPLITS}
    manifest_file = write_results(root, lists, digests, results)

    def check() -> ImageIdentities:
        return require_validated_images(root, lists, manifest_file, shards=None, cache_dir=results / "cache")

    identities = check()
    files = [f"{root}/{path}" for path in identities.paths]
    sizes = identities.values["bytes"]
    own = measure_times(check)
    other = measure_times(lambda: find_other_sizes(files, sizes, lambda: None))
    print(f"{len(files):,} images, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}: check {own}, sizes {other}")
    return [
        Target("CPU seconds to compare 1.33 M images with the manifest before training", own.cpu, MAX_CPU_SECONDS),
        Target("CPU seconds to compare the sizes of 1.33 M images on another machine", other.cpu, MAX_CPU_SECONDS),
    ]


@dataclass(frozen=True)
class Times:
    """Median times of a few calls in seconds; `cpu` includes processes that have ended."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.cpu:.1f} s of CPU time)"


def measure_times(step: Callable[[], object]) -> Times:
    """Return the median times of a few calls."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        start, used = time.perf_counter(), sum(os.times()[:4])
        step()
        wall.append(time.perf_counter() - start)
        cpu.append(sum(os.times()[:4]) - used)
    return Times(statistics.median(wall), statistics.median(cpu))


def write_links(root: Path) -> list[str]:
    """Write class folders, links and both lists, and return the digests of the files with these numbers."""
    sources = root.with_name("sources")
    sources.mkdir()
    contents = [f"image {number}".encode() * (1 + number % 3) for number in range(max(IMAGES_PER_CLASS.values()))]
    for number, content in enumerate(contents):
        (sources / str(number)).write_bytes(content)
    for split, count in IMAGES_PER_CLASS.items():
        lines = []
        for label in range(CLASSES):
            folder = f"{split}/n{label:08d}"
            (root / folder).mkdir(parents=True)
            for number in range(count):
                name = f"{folder}/n{label:08d}_{number}.JPEG"
                os.link(sources / str(number), root / name)
                lines.append(f"{name} {label}\n")
        (root / f"{split}_list.txt").write_text("".join(lines))
    return [hashlib.sha256(content).hexdigest() for content in contents]


def write_results(root: Path, lists: dict[Split, ListEntries], digests: list[str], results: Path) -> Path:
    """Write the manifest and the scan cache that a full scan would write, and return the path of the manifest."""
    results.mkdir()
    manifest = scan_dataset(root, lists, level="structure")
    manifest["sha256"] = [digests[int(path.rpartition("_")[2].removesuffix(".JPEG"))] for path in manifest["path"]]
    manifest["scan_level"] = "full"
    manifest.to_parquet(results / "manifest.parquet", index=False)
    walked = walk_splits(root.resolve(), SPLITS, 1)
    cache = ScanCache(results / "cache", root.resolve())
    rows = pa.Table.from_pandas(manifest, preserve_index=False)
    found = {path: row for row, path in enumerate(walked.paths.to_pylist())}
    order = np.array([found[path] for path in manifest["path"]])
    states = {"bytes": walked.sizes[order], "mtime_ns": walked.mtimes[order], "inode": walked.inodes[order]}
    names = [name for name in cache.rows.column_names if name not in states]
    cache.replace(pa.table({**{name: rows[name].cast(cache.rows.schema.field(name).type) for name in names}, **states}))
    return results / "manifest.parquet"
