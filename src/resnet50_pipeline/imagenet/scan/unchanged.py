"""Checks that images still match the manifest by reading changed files and a sample of the seemingly unchanged ones."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.scan.cache import ScanCache
from resnet50_pipeline.imagenet.scan.rows import MTIME_RESOLUTION_NS
from resnet50_pipeline.imagenet.walk import WalkedFiles, find_top_folders, walk_splits
from resnet50_pipeline.imagenet.worker_pool import count_workers, map_in_processes
from resnet50_pipeline.progress import show_progress
from resnet50_pipeline.text import pluralize

logger = logging.getLogger(__name__)

# Number of images to read even though their files appear unchanged. If 1 in 50 images was replaced by an image with the
# same size and time, the probability that the sample contains no replaced image is below 1%.
SAMPLE = 256
_IMAGES_PER_TASK = 256
_MIN_IMAGES_FOR_POOL = 2000
_NEVER = -1
COMPARED = ("split", "path", "bytes", "sha256", "status", "mtime_ns")
_CHANGED = "has changed since data_validation"


@dataclass(frozen=True)
class _Task:
    """Files to read, as paths relative to the root."""

    root: str
    paths: Sequence[str]


def find_changed_images(
    root: Path, manifest_file: Path, listed: pd.DataFrame, cache_dir: Path | None, workers: int = 0
) -> list[tuple[str, str]]:
    """Return the path of each valid image that has changed since the scan, and a description of the change.

    An image counts as unchanged if its size, modification time and inode match the scan cache. All other images, and a
    random sample of the unchanged images, are read to compare their digests with the manifest. If the manifest has no
    digests, the modification times are compared.

    Args:
        root: dataset folder.
        manifest_file: Parquet manifest.
        listed: rows of the manifest to check, with the columns `COMPARED` and the index of the manifest.
        cache_dir: folder of the scan caches; without it, every image is read.
        workers: number of processes that walk and read; 0 means one per core.

    Raises:
        DatasetError: if a folder cannot be walked, or a worker process is killed.
    """
    start_ns = time.time_ns()
    images = listed[listed["status"] == "ok"]
    if not len(images):
        return []
    real_root, workers = root.resolve(), count_workers(workers)
    walked = walk_splits(real_root, find_top_folders(real_root, images["path"]), workers)
    state = _FileStates(images, walked)
    cache = None if cache_dir is None else ScanCache(cache_dir, real_root)
    known = state.find_known(cache)
    sample = np.array(random.sample(known.tolist(), min(SAMPLE, len(known))), np.int64)
    is_unknown = state.has_digest.copy()
    is_unknown[known] = False
    unknown = np.flatnonzero(is_unknown)
    read = np.concatenate([unknown, sample])
    digests = _read_digests(real_root, [state.paths[row] for row in read.tolist()], workers)
    is_same = np.array([digest == state.digests[row] for row, digest in zip(read.tolist(), digests, strict=True)], bool)
    is_changed = state.size_differs | state.time_differs
    is_changed[read[~is_same]] = True
    logger.info(
        "compared %s with the manifest: read %s%s",
        pluralize(len(images), "image"),
        f"{len(read):,}" if len(read) < len(images) else "all",
        "; the other images have the same size, time and inode as in the scan" if len(read) < len(images) else "",
    )
    if cache is not None:
        if (~is_same[len(unknown) :]).any():
            # An image has changed, but its size, time and inode have not, so the cache cannot be trusted.
            cache.delete()
        else:
            state.update(cache, manifest_file, unknown[is_same[: len(unknown)]], np.flatnonzero(is_changed), start_ns)
    return [(state.paths[row], state.describe(row, real_root)) for row in np.flatnonzero(is_changed).tolist()]


class _FileStates:
    """The images in the manifest, and the current state of their files.

    Attributes:
        paths: [N] paths relative to the root.
        digests: [N] digests in the manifest; "" if the scan did not compute one.
        size_differs: [N] bool, True if the size differs from the manifest or the file is missing.
        time_differs: [N] bool, True if there is no digest and the modification time differs from the manifest.
        has_digest: [N] bool, True if there is a digest and the size matches the manifest.
    """

    def __init__(self, images: pd.DataFrame, walked: WalkedFiles) -> None:
        self._images = images
        self.paths: list[str] = images["path"].tolist()
        self.digests: list[str] = images["sha256"].fillna("").tolist()
        self._column = pa.array(self.paths, pa.large_string())
        found = pc.index_in(self._column, walked.paths).fill_null(-1).to_numpy(zero_copy_only=False)
        # Links are not regular files, so their targets are read.
        is_walked = (found >= 0) & (walked.is_file[found] if len(walked.sizes) else False)
        self._sizes, self._mtimes, self._inodes = (
            np.where(is_walked, column[found] if len(column) else _NEVER, _NEVER)
            for column in (walked.sizes, walked.mtimes, walked.inodes)
        )
        is_link = (found >= 0) & ~is_walked
        expected = images["bytes"].to_numpy(np.int64)
        self.size_differs = (self._sizes != expected) & ~is_link
        has_digest = images["sha256"].fillna("").to_numpy(object) != ""
        mtimes = images["mtime_ns"].to_numpy(np.int64)
        self.time_differs = ~has_digest & ~is_link & ~self.size_differs & (self._mtimes != mtimes)
        self.has_digest: NDArray[np.bool_] = has_digest & ~self.size_differs

    def find_known(self, cache: ScanCache | None) -> NDArray[np.int64]:
        """Return the rows whose digest and file state match the cache."""
        if cache is None or not len(cache.rows):
            return np.zeros(0, np.int64)
        found = cache.find(self._column, self._sizes, self._mtimes, ["full"])
        found[found >= 0] = np.where(
            cache.rows["inode"].to_numpy()[found[found >= 0]] == self._inodes[found >= 0], found[found >= 0], -1
        )
        rows = np.flatnonzero((found >= 0) & self.has_digest)
        digests = cache.rows["sha256"].take(pa.array(found[rows])).to_pylist()
        is_same = [digest == self.digests[row] for row, digest in zip(rows.tolist(), digests, strict=True)]
        known: NDArray[np.int64] = rows[np.array(is_same, bool)]
        return known

    def update(
        self,
        cache: ScanCache,
        manifest_file: Path,
        verified: NDArray[np.int64],
        changed: NDArray[np.int64],
        start_ns: int,
    ) -> None:
        """Record the current state of the verified files, and make the next scan read the changed files."""
        # Changes to a link's target do not change the link. A file that has just changed may change again without a new
        # modification time.
        is_settled = (self._mtimes[verified] != _NEVER) & (self._mtimes[verified] < start_ns - MTIME_RESOLUTION_NS)
        rows = np.concatenate([verified[is_settled], changed])
        if not len(rows):
            return
        states = {"bytes": self._sizes[rows], "mtime_ns": self._mtimes[rows], "inode": self._inodes[rows]}
        for values in states.values():
            values[len(rows) - len(changed) :] = _NEVER
        names = [name for name in cache.rows.column_names if name not in states]
        table = pq.read_table(manifest_file, columns=names).take(pa.array(self._images.index.to_numpy()[rows]))
        texts = {name: table[name].cast(cache.rows.schema.field(name).type) for name in names}
        cache.add({**texts, **states})

    def describe(self, row: int, root: Path) -> str:
        """Describe how an image has changed."""
        path = root / self.paths[row]
        if not path.is_file():
            return "is missing, but data_validation found it" if not path.exists() else "is no longer a file"
        size, expected = path.stat().st_size, int(self._images["bytes"].iloc[row])
        if size != expected:
            return f"{_CHANGED}: it has {size:,} bytes, not {expected:,}"
        return f"{_CHANGED}: its {'content' if self.digests[row] else 'modification time'} differs"


def _read_digests(root: Path, paths: Sequence[str], workers: int) -> list[str]:
    """Return the digest of each file, or "" if it cannot be read."""
    starts = range(0, len(paths), _IMAGES_PER_TASK)
    tasks = [_Task(str(root), paths[start : start + _IMAGES_PER_TASK]) for start in starts]
    in_processes = workers > 1 and len(paths) >= _MIN_IMAGES_FOR_POOL
    results: Iterator[list[str]] = (
        map_in_processes(_digest_files, tasks, workers) if in_processes else map(_digest_files, tasks)
    )
    digests: list[list[str]] = []
    with show_progress(len(paths), what="comparing images with the manifest") as advance:
        for found in results:
            digests.append(found)
            advance(len(found))
    return list(chain.from_iterable(digests))


def _digest_files(task: _Task) -> list[str]:
    return [_digest_file(f"{task.root}/{path}") for path in task.paths]


def _digest_file(path: str) -> str:
    try:
        # O_NONBLOCK avoids blocking if a FIFO has replaced the file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""
