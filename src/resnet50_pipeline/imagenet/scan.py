"""One pass over all images of a dataset folder: the manifest, which everybody else reads."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.inspection import SCAN_LEVELS, Inspection, ScanLevel
from resnet50_pipeline.imagenet.inspection_pool import Executor, choose_executor, split_into_tasks
from resnet50_pipeline.imagenet.list_files import ListEntries, Split
from resnet50_pipeline.imagenet.manifest import MANIFEST_COLUMNS, UNLISTED_LABEL
from resnet50_pipeline.imagenet.scan_cache import ScanCache
from resnet50_pipeline.imagenet.scan_progress import show_progress
from resnet50_pipeline.imagenet.walk import WalkedFiles, walk_splits

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})

_SECONDS_BETWEEN_CHECKPOINTS = 5.0
# A file that was changed as short a time ago may change once more without its time telling: file systems count in
# steps of up to two seconds. What was found about it is not kept for the next scan.
_SETTLED_NS = 2_000_000_000
_NUMBERS = ("bytes", "mtime_ns", "width", "height", "exif_orientation", "trailing_bytes")
_TEXTS = ("scan_level", "format", "mode", "sha256", "status", "problem")
_UNLISTED = "is in no list → add a line for it, or delete it"


def scan_dataset(
    root: Path,
    lists: Mapping[Split, ListEntries],
    workers: int = 0,
    *,
    level: ScanLevel = "full",
    cache_dir: Path | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Walk the dataset folder, and inspect every listed image as far as `level` asks.

    What is wrong with an image stands in its row (`status`, `problem`); nothing of it is raised.

    Args:
        root: dataset folder.
        lists: by split, entries with paths relative to `root`.
        workers: processes that walk and read; 0 means one a core.
        level: what is looked at; see `imagenet.inspection`.
        cache_dir: what former scans found at this level or a higher one is taken from there for every file of the
            same size and time of change, and what this one finds is kept there, every few seconds.
        executor: who reads the images; by default, processes of this machine.

    Returns:
        The manifest, columns `MANIFEST_COLUMNS`: one row a list entry, train first, in the order of the lists; then
        one row an image that no list names, with label -1, status "unlisted", and nothing of its content.

    Raises:
        DatasetError: a folder cannot be walked, or a process that read images was killed.
    """
    start, start_ns = time.monotonic(), time.time_ns()
    real_root = root.resolve()
    workers = workers or len(os.sched_getaffinity(0))
    walked = walk_splits(real_root, list(lists), workers)
    paths = pa.array([path for entries in lists.values() for path in entries.paths], pa.large_string())
    place = _find_places(paths, walked.paths)
    rows = _Rows(paths, walked, place, level)
    cache = ScanCache(cache_dir, real_root) if cache_dir is not None and level != "structure" else None
    if cache is not None:
        rows.take_known(cache)
    read_count = _inspect(real_root, rows, executor or choose_executor("processes", workers), cache, start_ns)
    if cache is not None:
        rows.keep(cache, start_ns)
    manifest = _build_manifest(rows, lists, walked, place)
    seconds = time.monotonic() - start
    logger.info(
        "read %d images in %.1f s, %.0f images/s (%d were known already); %d images are in no list",
        len(paths),
        seconds,
        len(paths) / seconds,
        len(paths) - read_count,
        len(manifest) - len(paths),
    )
    return manifest


class _Rows:
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
        self.columns: dict[str, NDArray[Any]] = {name: np.zeros(count, np.int64) for name in _NUMBERS}
        self.columns |= {name: np.full(count, "", object) for name in _TEXTS}
        self.columns["exif_orientation"][:] = 1
        self.columns["scan_level"][:] = level
        self.columns["status"][:] = "ok"
        at = place[self.is_walked]
        self.columns["bytes"][self.is_walked] = walked.sizes[at]
        self.columns["mtime_ns"][self.is_walked] = walked.mtimes[at]
        self._sizes = self.columns["bytes"].copy()
        # A link, something missing, … is looked at anew in every scan, a regular file unless it is known.
        self.is_open = ~self.is_walked if level == "structure" else np.ones(count, np.bool_)
        self.is_known = np.zeros(count, np.bool_)

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
        for name in (*_NUMBERS, *_TEXTS):
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
        kept: NDArray[np.int64] = index[
            unchanged & is_read & (self.columns["mtime_ns"][index] < start_ns - _SETTLED_NS)
        ]
        return kept

    def select(self, index: NDArray[np.int64]) -> dict[str, Any]:
        """Return the columns of some rows, as the cache has them."""
        values = {name: pa.array(self.columns[name][index]) for name in _NUMBERS}
        values |= {name: pa.array(self.columns[name][index], pa.large_string()) for name in _TEXTS}
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


def _inspect(root: Path, rows: _Rows, executor: Executor, cache: ScanCache | None, start_ns: int) -> int:
    """Inspect what is not known, add it to the cache every few seconds, and return how many images that were."""
    # In the order of the lists, where neighbours lie in one folder; what is no plain file comes last.
    order = np.concatenate([np.flatnonzero(rows.is_open & is_kind) for is_kind in (rows.is_walked, ~rows.is_walked)])
    if not len(order):
        return 0
    walked_count = int((rows.is_open & rows.is_walked).sum())
    paths = rows.paths.take(pa.array(order)).to_pylist()
    tasks = split_into_tasks(root, paths[:walked_count], rows.level, is_walked=True)
    tasks += split_into_tasks(root, paths[walked_count:], rows.level, is_walked=False)
    del paths
    done = saved = 0

    def save() -> None:
        nonlocal saved
        index = rows.select_keepable(order[saved:done], start_ns)
        if cache is not None and len(index):
            cache.add(rows.select(index))
        saved = done

    with show_progress(len(order)) as advance:
        next_save = time.monotonic() + _SECONDS_BETWEEN_CHECKPOINTS
        try:
            for columns in executor(tasks):
                count = len(columns[0])
                rows.fill_in(order[done : done + count], columns)
                done += count
                advance(count)
                if time.monotonic() >= next_save:
                    save()
                    next_save = time.monotonic() + _SECONDS_BETWEEN_CHECKPOINTS
        except BaseException:
            save()
            raise
    return done


def _build_manifest(
    rows: _Rows, lists: Mapping[Split, ListEntries], walked: WalkedFiles, place: NDArray[np.int64]
) -> pd.DataFrame:
    unlisted = _find_unlisted(walked, place)
    lengths = [len(entries) for entries in lists.values()]
    paths = [path for entries in lists.values() for path in entries.paths]
    values: dict[str, Any] = {
        "split": np.repeat(np.array(list(lists), object), lengths),
        "path": np.array(paths, object),
        "label": np.concatenate([entries.labels for entries in lists.values()]),
        **rows.columns,
    }
    # A copy of the same content gives the same manifest: where there is a digest, the time says nothing more.
    values["mtime_ns"] = np.where(values["scan_level"] == "full", 0, values["mtime_ns"])
    if len(unlisted["path"]):
        values = {name: np.concatenate([value, unlisted[name]]) for name, value in values.items()}
    values["synset"] = _find_synsets(values["path"])
    manifest = pd.DataFrame({name: values[name] for name in MANIFEST_COLUMNS}, copy=False)
    _fill_in_synsets(manifest)
    manifest["label"] = manifest["label"].astype("Int64")
    return manifest


def _find_places(paths: pa.LargeStringArray, walked: pa.LargeStringArray) -> NDArray[np.int64]:
    """Return where each listed path is among the walked ones, -1 where it is not."""
    found = pc.index_in(paths, walked).fill_null(-1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def _find_unlisted(walked: WalkedFiles, place: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the columns of a row for each image file that no list names, sorted by split and path."""
    is_listed = np.zeros(len(walked.sizes), np.bool_)
    is_listed[place[place >= 0]] = True
    rest = np.flatnonzero(~is_listed)
    found = sorted(_image_files(walked.paths.take(pa.array(rest)).to_pylist(), rest))
    count, index = len(found), np.array([at for _, at in found], np.int64)
    columns: dict[str, NDArray[Any]] = {name: np.zeros(count, np.int64) for name in _NUMBERS}
    texts = {**dict.fromkeys(_TEXTS, ""), "scan_level": "structure", "status": "unlisted", "problem": _UNLISTED}
    columns |= {name: np.full(count, text, object) for name, text in texts.items()}
    columns["path"] = np.array([path for path, _ in found], object)
    columns["split"] = np.array([path.partition("/")[0] for path, _ in found], object)
    columns["label"] = np.full(count, UNLISTED_LABEL, np.int64)
    columns["exif_orientation"][:] = 1
    columns["bytes"] = walked.sizes[index]
    return columns


def _image_files(paths: Sequence[str], index: NDArray[np.int64]) -> Iterator[tuple[str, int]]:
    for path, at in zip(paths, index.tolist(), strict=True):
        name = path.rpartition("/")[2]
        if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
            yield path, at


def _find_synsets(paths: NDArray[Any]) -> NDArray[Any]:
    """Return the class folder of each path; the same text object for all images of a folder."""
    synset_of_folder: dict[str, str] = {}
    synsets = np.empty(len(paths), object)
    for index, path in enumerate(paths):
        folder = path.rpartition("/")[0]
        if folder not in synset_of_folder:
            synset_of_folder[folder] = _synset_of(path)
        synsets[index] = synset_of_folder[folder]
    return synsets


def _synset_of(path: str) -> str:
    """Return the class folder of `train/n01440764/….JPEG`, and "" for the flat `val/ILSVRC2012_val_….JPEG`."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""


def _fill_in_synsets(manifest: pd.DataFrame) -> None:
    """Give the images of a flat folder the class folder that the train images of their label are in, if it is one."""
    unknown = manifest["synset"] == ""
    if not unknown.any():
        return
    train = manifest[(manifest["split"] == "train") & (manifest["synset"] != "") & (manifest["label"] >= 0)]
    folders = train[["label", "synset"]].drop_duplicates()
    synset_of_label = folders.drop_duplicates("label", keep=False).set_index("label")["synset"]
    manifest.loc[unknown, "synset"] = manifest.loc[unknown, "label"].map(synset_of_label).fillna("")
