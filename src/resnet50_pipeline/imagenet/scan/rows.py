"""Holds the state of a running scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.scan.cache import ScanCache
from resnet50_pipeline.imagenet.scan.inspection import SCAN_LEVELS, ScanLevel
from resnet50_pipeline.imagenet.scan.tasks import COLUMN_NAMES, Columns
from resnet50_pipeline.imagenet.walk import WalkedFiles
from resnet50_pipeline.imaging.content.measures import SCORES

NUMBERS = ("bytes", "mtime_ns", "inode", "width", "height", "exif_orientation", "trailing_bytes")
TEXTS = ("scan_level", "format", "mode", "sha256", "ignored", "status", "problem", "difference_hash")
_UNIQUE_TEXTS = ("sha256", "difference_hash")
# File systems record times in steps of up to two seconds. A file that changed more recently can change again without a
# new modification time, so its results are not cached.
MTIME_RESOLUTION_NS = 2_000_000_000


class ScanRows:
    """The values known so far for each listed image, one array per field.

    Attributes:
        paths: [N] listed paths.
        level: level of the scan.
        is_walked: [N] bool, True for regular files and archive members that the walk found.
        columns: arrays [N], keyed by field name.
        archives: archives that contain images.
        file_numbers: [N] int32, index into `archives`; -1 for separate files.
        offsets: [N] int64, position within the archive.
        is_pending: [N] bool, True for images that still need to be inspected.
        is_cached: [N] bool, True for images whose values come from the cache.
    """

    def __init__(
        self, paths: pa.LargeStringArray, walked: WalkedFiles, walk_index: NDArray[np.int64], level: ScanLevel
    ) -> None:
        self.paths = paths
        self.level = level
        count = len(paths)
        self.is_walked = walk_index >= 0
        if len(walked.mtimes):
            self.is_walked &= walked.is_file[walk_index]
        self.columns: dict[str, NDArray[Any]] = {name: np.zeros(count, np.int64) for name in NUMBERS}
        self.columns |= {name: np.full(count, "", object) for name in TEXTS}
        self.columns |= {name: np.full(count, np.nan, np.float32) for name in SCORES}
        self.columns["exif_orientation"][:] = 1
        self.columns["scan_level"][:] = level
        self.columns["status"][:] = "ok"
        at = walk_index[self.is_walked]
        self.columns["bytes"][self.is_walked] = walked.sizes[at]
        self.columns["mtime_ns"][self.is_walked] = walked.mtimes[at]
        self.columns["inode"][self.is_walked] = walked.inodes[at]
        self._sizes = self.columns["bytes"].copy()
        self.archives = walked.archives
        self.file_numbers, self.offsets = np.full(count, -1, np.int32), np.zeros(count, np.int64)
        self.file_numbers[self.is_walked] = walked.file_numbers[at]
        self.offsets[self.is_walked] = walked.offsets[at]
        # Only regular files are cached. Links and missing files are inspected in every scan.
        self.is_pending = ~self.is_walked if level == "structure" else np.ones(count, np.bool_)
        self.is_cached = np.zeros(count, np.bool_)

    def mark_missing_from_archives(self, ranges: Mapping[Split, slice]) -> None:
        """Mark images that are not in the archive of their split, even if a separate file has the same path.

        Args:
            ranges: row ranges of the splits that are read from archives.
        """
        for split, rows in ranges.items():
            is_missing = ~self.is_walked[rows]
            self.columns["status"][rows][is_missing] = "missing"
            self.columns["problem"][rows][is_missing] = (
                f"is not in dataset.{split}_archive → use the archive that contains it, or remove its line"
            )
            self.is_pending[rows] &= ~is_missing

    def load_cached(self, cache: ScanCache) -> None:
        """Fill in the cached values of unchanged files."""
        levels = SCAN_LEVELS[SCAN_LEVELS.index(self.level) :]
        found = cache.find(self.paths, self._sizes, self.columns["mtime_ns"], levels)
        found[~self.is_walked] = -1
        self.is_cached = found >= 0
        self.is_pending &= ~self.is_cached
        index = found[self.is_cached]
        is_all_in_order = len(index) == len(cache.rows) and bool((index == np.arange(len(index))).all())
        known = cache.rows if is_all_in_order else cache.rows.take(pa.array(index))
        for name in (*NUMBERS, *TEXTS, *SCORES):
            self.columns[name][self.is_cached] = _to_numpy(known[name], is_mostly_unique=name in _UNIQUE_TEXTS)

    def record(self, index: NDArray[np.int64], found: Columns) -> None:
        """Copy the results of an inspection into the given rows."""
        for name, values in zip(COLUMN_NAMES, found, strict=True):
            self.columns[name][index] = values

    def select_cacheable(self, index: NDArray[np.int64], start_ns: int) -> NDArray[np.int64]:
        """Return the rows that the next scan may reuse."""
        # If the size differs from the one that the walk found, the file has changed since the walk.
        unchanged = self.is_walked[index] & (self.columns["bytes"][index] == self._sizes[index])
        status = self.columns["status"][index]
        is_read = (status == "ok") | (status == "undecodable")
        kept: NDArray[np.int64] = index[
            unchanged & is_read & (self.columns["mtime_ns"][index] < start_ns - MTIME_RESOLUTION_NS)
        ]
        return kept

    def select(self, index: NDArray[np.int64]) -> dict[str, Any]:
        """Return the columns of some rows, in the cache's format."""
        values = {name: pa.array(self.columns[name][index]) for name in (*NUMBERS, *SCORES)}
        values |= {name: pa.array(self.columns[name][index], pa.large_string()) for name in TEXTS}
        return {"path": self.paths.take(pa.array(index)), **values}

    def save(self, cache: ScanCache, start_ns: int) -> None:
        """Replace the contents of the cache with the values of the listed images, unless nothing has changed."""
        if self.is_cached.all() and cache.is_compact and len(cache.rows) == len(self.paths):
            return
        cache.replace(pa.table(self.select(self.select_cacheable(np.arange(len(self.paths)), start_ns))))


def _to_numpy(column: pa.ChunkedArray, *, is_mostly_unique: bool) -> NDArray[Any]:
    """Return a column as an array. Unless most strings are unique, equal strings share one Python object."""
    if is_mostly_unique or not pa.types.is_large_string(column.type):
        values: NDArray[Any] = column.to_numpy()
        return values
    shared = column.combine_chunks().dictionary_encode()
    texts = np.array([*shared.dictionary.to_pylist(), ""], object)
    return texts[shared.indices.to_numpy()]  # type: ignore[no-any-return]
