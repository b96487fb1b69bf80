"""What a scan knows so far about each listed image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.inspection import SCAN_LEVELS, Inspection, ScanLevel
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.imagenet.scan_cache import ScanCache
from resnet50_pipeline.imagenet.walk import WalkedFiles

NUMBERS = ("bytes", "mtime_ns", "width", "height", "exif_orientation", "trailing_bytes")
TEXTS = ("scan_level", "format", "mode", "sha256", "status", "problem")
# A file that was changed as short a time ago may change once more without its time telling: file systems count in
# steps of up to two seconds. What was found about it is not kept for the next scan.
SETTLED_NS = 2_000_000_000


class ScanRows:
    """What is known so far about each listed image, a column a field."""

    def __init__(
        self, paths: pa.LargeStringArray, walked: WalkedFiles, place: NDArray[np.int64], level: ScanLevel
    ) -> None:
        self.paths = paths
        self.level = level
        count = len(paths)
        self.is_walked = place >= 0
        if len(walked.mtimes):
            self.is_walked &= walked.is_file[place]
        self.columns: dict[str, NDArray[Any]] = {name: np.zeros(count, np.int64) for name in NUMBERS}
        self.columns |= {name: np.full(count, "", object) for name in TEXTS}
        self.columns["exif_orientation"][:] = 1
        self.columns["scan_level"][:] = level
        self.columns["status"][:] = "ok"
        at = place[self.is_walked]
        self.columns["bytes"][self.is_walked] = walked.sizes[at]
        self.columns["mtime_ns"][self.is_walked] = walked.mtimes[at]
        self._sizes = self.columns["bytes"].copy()
        self.archives = walked.archives
        self.file_numbers, self.offsets = np.full(count, -1, np.int32), np.zeros(count, np.int64)
        self.file_numbers[self.is_walked] = walked.file_numbers[at]
        self.offsets[self.is_walked] = walked.offsets[at]
        # A link, something missing, … is looked at anew in every scan, a regular file unless it is known.
        self.is_open = ~self.is_walked if level == "structure" else np.ones(count, np.bool_)
        self.is_known = np.zeros(count, np.bool_)

    def miss_in_archives(self, ranges: Mapping[Split, slice]) -> None:
        """Mark what is not in the archive of its split: whatever has its path in the folder is not meant.

        Args:
            ranges: rows of the splits that lie in archives.
        """
        for split, rows in ranges.items():
            is_missing = ~self.is_walked[rows]
            self.columns["status"][rows][is_missing] = "missing"
            self.columns["problem"][rows][is_missing] = (
                f"is not in dataset.{split}_archive → name the archive that has it, or take its line out of the list"
            )
            self.is_open[rows] &= ~is_missing

    def take_known(self, cache: ScanCache) -> None:
        """Fill in what the cache knows about files that are as they were."""
        levels = SCAN_LEVELS[SCAN_LEVELS.index(self.level) :]
        found = cache.find(self.paths, self._sizes, self.columns["mtime_ns"], levels)
        found[~self.is_walked] = -1
        self.is_known = found >= 0
        self.is_open &= ~self.is_known
        index = found[self.is_known]
        is_all_in_order = len(index) == len(cache.rows) and bool((index == np.arange(len(index))).all())
        known = cache.rows if is_all_in_order else cache.rows.take(pa.array(index))
        for name in (*NUMBERS, *TEXTS):
            self.columns[name][self.is_known] = _to_numpy(known[name], is_various=name == "sha256")

    def fill_in(self, index: NDArray[np.int64], found: tuple[tuple[object, ...], ...]) -> None:
        """Fill in what an inspection found."""
        for name, values in zip(Inspection._fields, found, strict=True):
            self.columns[name][index] = values

    def select_keepable(self, index: NDArray[np.int64], start_ns: int) -> NDArray[np.int64]:
        """Return those of the rows that the next scan may take as they are."""
        # The size that was read must be the size of the walk, or the file changed in between.
        unchanged = self.is_walked[index] & (self.columns["bytes"][index] == self._sizes[index])
        status = self.columns["status"][index]
        is_read = (status == "ok") | (status == "undecodable")
        kept: NDArray[np.int64] = index[unchanged & is_read & (self.columns["mtime_ns"][index] < start_ns - SETTLED_NS)]
        return kept

    def select(self, index: NDArray[np.int64]) -> dict[str, Any]:
        """Return the columns of some rows, as the cache has them."""
        values = {name: pa.array(self.columns[name][index]) for name in NUMBERS}
        values |= {name: pa.array(self.columns[name][index], pa.large_string()) for name in TEXTS}
        return {"path": self.paths.take(pa.array(index)), **values}

    def keep(self, cache: ScanCache, start_ns: int) -> None:
        """Make what is known about the listed images all that the cache knows, unless it is that already."""
        if self.is_known.all() and cache.is_compact and len(cache.rows) == len(self.paths):
            return
        cache.replace(pa.table(self.select(self.select_keepable(np.arange(len(self.paths)), start_ns))))


def _to_numpy(column: pa.ChunkedArray, *, is_various: bool) -> NDArray[Any]:
    """Return the numbers, or the texts: where they are few, each once in memory, however many rows have it."""
    if pa.types.is_integer(column.type) or is_various:
        values: NDArray[Any] = column.to_numpy()
        return values
    shared = column.combine_chunks().dictionary_encode()
    texts = np.array([*shared.dictionary.to_pylist(), ""], object)
    return texts[shared.indices.to_numpy()]  # type: ignore[no-any-return]
