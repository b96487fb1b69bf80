"""Scans a dataset folder once and builds the manifest that all later steps read."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.archives.images import ArchivedImages
from resnet50_pipeline.imagenet.lists.files import ListEntries, Split
from resnet50_pipeline.imagenet.lists.generation import is_image_name
from resnet50_pipeline.imagenet.scan.archived_files import add_archived
from resnet50_pipeline.imagenet.scan.cache import ScanCache
from resnet50_pipeline.imagenet.scan.executors import choose_executor
from resnet50_pipeline.imagenet.scan.inspection import ScanLevel
from resnet50_pipeline.imagenet.scan.manifest import MANIFEST_COLUMNS, UNLISTED_LABEL
from resnet50_pipeline.imagenet.scan.rows import MTIME_RESOLUTION_NS, NUMBERS, TEXTS, ScanRows
from resnet50_pipeline.imagenet.scan.tasks import Executor, InspectionTask, split_into_tasks
from resnet50_pipeline.imagenet.walk import WalkedFiles, find_top_folders, walk_splits
from resnet50_pipeline.imagenet.worker_pool import count_workers
from resnet50_pipeline.imaging.content.measures import SCORES
from resnet50_pipeline.progress import show_progress
from resnet50_pipeline.text import format_duration, pluralize

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_CHECKPOINTS = 5.0
_UNLISTED = {
    "unlisted": "is not in any list → add a line for it, or move it out of the dataset",
    "other_file": "is not used because its name has no image suffix → rename the file, add a line for it, or "
    "move it out of the dataset",
}


def scan_dataset(
    root: Path,
    lists: Mapping[Split, ListEntries],
    workers: int = 0,
    *,
    level: ScanLevel = "full",
    cache_dir: Path | None = None,
    executor: Executor | None = None,
    archived: Mapping[Split, ArchivedImages] | None = None,
    tiff: bool = False,
    class_keys: Sequence[str] | None = None,
    dropped: Collection[str] = (),
    relabeled: Collection[str] = (),
) -> pd.DataFrame:
    """Walk the dataset folder and inspect every listed image.

    Problems with images are recorded in the columns `status` and `problem`, never raised. The column `scan_level`
    contains the level of each image's inspection, which is deeper than `level` if the cached result of an earlier,
    deeper scan was reused. The `structure` level never reuses results.

    Args:
        root: dataset folder.
        lists: entries, keyed by split, with paths relative to `root`.
        workers: number of processes that walk and read; 0 means one per core.
        level: depth of the inspection; see `scan.inspection`.
        cache_dir: folder of the caches, or None. Results at this level or deeper are reused for files with the same
            size and modification time, and new results are saved every few seconds.
        executor: function that inspects the images; None uses processes on this machine.
        archived: images of each archived split. The folders of these splits are ignored. The manifest is the same as
            for the unpacked images.
        tiff: whether to accept TIFF files.
        class_keys: short names of the classes, in label order, if the images may be anywhere below `root`; None for the
            ImageNet layout. The column `synset` then contains these names instead of class folders, and only the
            top-level folders that appear in the lists are walked.
        dropped: files that a patch has removed from the lists. They are not reported as unlisted.
        relabeled: images whose label a patch has set. Their `synset` comes from the label instead of the folder.

    Returns:
        The manifest with the columns `MANIFEST_COLUMNS`: one row per list entry, train first, in list order; then one
        row per file that is not in any list. These rows have the label -1, no information about the content, and the
        status "unlisted" (for an image) or "other_file".

    Raises:
        DatasetError: if a folder cannot be walked, or a worker process is killed.
    """
    start, start_ns = time.monotonic(), time.time_ns()
    real_root, archived = root.resolve(), archived or {}
    workers = count_workers(workers)
    folders: list[str] = [split for split in lists if split not in archived]
    if class_keys is not None:
        folders = find_top_folders(real_root, (path for entries in lists.values() for path in entries.paths))
    walked = walk_splits(real_root, folders, workers)
    walked = add_archived(walked, archived)
    paths = pa.array([path for entries in lists.values() for path in entries.paths], pa.large_string())
    walk_index = _locate_in_walk(paths, walked.paths)
    rows = ScanRows(paths, walked, walk_index, level)
    rows.mark_missing_from_archives(
        {split: slice(*bounds) for split, bounds in _iterate_row_bounds(lists) if split in archived}
    )
    cache = None
    if cache_dir is not None and level != "structure":
        fingerprints = [one for images in archived.values() for one in images.fingerprint]
        # An archive that has just changed may still be incomplete. Read it, but do not cache the results.
        if all(mtime_ns < start_ns - MTIME_RESOLUTION_NS for _, _, mtime_ns in fingerprints):
            cache = ScanCache(cache_dir, real_root, fingerprints, tiff=tiff)
            rows.load_cached(cache)
    read_count = _inspect(
        real_root, rows, executor or choose_executor("processes", workers), cache, start_ns, tiff=tiff
    )
    if cache is not None:
        rows.save(cache, start_ns)
    manifest = _build_manifest(rows, lists, walked, walk_index, class_keys, dropped=dropped, relabeled=relabeled)
    seconds = time.monotonic() - start
    logger.info(
        "scanned %s in %s, %.0f images/s (%s from the cache); not in any list: %s",
        pluralize(len(paths), "image"),
        format_duration(seconds),
        len(paths) / seconds,
        f"{len(paths) - read_count:,}",
        pluralize(len(manifest) - len(paths), "file"),
    )
    return manifest


def _inspect(
    root: Path, rows: ScanRows, executor: Executor, cache: ScanCache | None, start_ns: int, *, tiff: bool
) -> int:
    """Inspect the pending images and return how many were read.

    Results are cached every few seconds, and also if the scan fails.
    """
    order, tasks = _plan(root, rows, tiff=tiff)
    if not tasks:
        return 0
    done = saved = 0

    def save() -> None:
        nonlocal saved
        index = rows.select_cacheable(order[saved:done], start_ns)
        if cache is not None and len(index):
            cache.add(rows.select(index))
        saved = done

    with show_progress(len(order)) as advance:
        next_save = time.monotonic() + _SECONDS_BETWEEN_CHECKPOINTS
        try:
            for columns in executor(tasks):
                count = len(columns[0])
                rows.record(order[done : done + count], columns)
                done += count
                advance(count)
                if time.monotonic() >= next_save:
                    save()
                    next_save = time.monotonic() + _SECONDS_BETWEEN_CHECKPOINTS
        except BaseException:
            save()
            raise
    return done


def _plan(root: Path, rows: ScanRows, *, tiff: bool) -> tuple[NDArray[np.int64], list[InspectionTask]]:
    """Return the pending rows and their tasks, in the same order.

    Separate files come first, in list order, because neighbors in a list are usually in the same folder. Archived
    images follow, in the order in which they are stored. Entries that are not regular files come last.
    """
    tasks: list[InspectionTask] = []
    parts: list[NDArray[np.int64]] = []

    def add(index: NDArray[np.int64], *, is_walked: bool, archive: int = -1) -> None:
        paths = rows.paths.take(pa.array(index)).to_pylist()
        sizes = rows.columns["bytes"][index].tolist() if is_walked else []
        task = InspectionTask(str(root), paths, rows.level, is_walked, sizes=sizes, tiff=tiff)
        if archive >= 0:
            task = replace(task, archive=str(rows.archives[archive]), offsets=rows.offsets[index].tolist())
        tasks.extend(split_into_tasks(task))
        parts.append(index)

    is_loose = rows.file_numbers < 0
    add(np.flatnonzero(rows.is_pending & rows.is_walked & is_loose), is_walked=True)
    packed = np.flatnonzero(rows.is_pending & ~is_loose)
    packed = packed[np.lexsort((rows.offsets[packed], rows.file_numbers[packed]))]
    ends = np.searchsorted(rows.file_numbers[packed], np.arange(len(rows.archives) + 1))
    for archive in range(len(rows.archives)):
        add(packed[ends[archive] : ends[archive + 1]], is_walked=True, archive=archive)
    add(np.flatnonzero(rows.is_pending & ~rows.is_walked), is_walked=False)
    return np.concatenate(parts), tasks


def _iterate_row_bounds(lists: Mapping[Split, ListEntries]) -> Iterator[tuple[Split, tuple[int, int]]]:
    """Yield each split with its first row and the row after its last row."""
    start = 0
    for split, entries in lists.items():
        yield split, (start, start + len(entries))
        start += len(entries)


def _build_manifest(
    rows: ScanRows,
    lists: Mapping[Split, ListEntries],
    walked: WalkedFiles,
    walk_index: NDArray[np.int64],
    class_keys: Sequence[str] | None,
    *,
    dropped: Collection[str],
    relabeled: Collection[str],
) -> pd.DataFrame:
    unlisted = _find_unlisted(walked, walk_index, dropped)
    if class_keys is not None:
        # Files that are not in any list have no split, but the column needs a value.
        unlisted["split"][:] = "train"
    lengths = [len(entries) for entries in lists.values()]
    paths = [path for entries in lists.values() for path in entries.paths]
    values: dict[str, Any] = {
        "split": np.repeat(np.array(list(lists), object), lengths),
        "path": np.array(paths, object),
        "label": np.concatenate([entries.labels for entries in lists.values()]),
        **rows.columns,
    }
    # At the `full` level, the digest identifies the content. Without modification times, copies of a dataset have the
    # same manifest.
    values["mtime_ns"] = np.where(values["scan_level"] == "full", 0, values["mtime_ns"])
    if len(unlisted["path"]):
        values = {name: np.concatenate([value, unlisted[name]]) for name, value in values.items()}
    if class_keys is None:
        values["synset"] = _find_synsets(values["path"])
    else:
        keys = np.array([*class_keys, ""], object)  # unlisted files have label -1, which selects the last key
        values["synset"] = keys[np.minimum(values["label"], len(class_keys))]
    manifest = pd.DataFrame({name: values[name] for name in MANIFEST_COLUMNS}, copy=False)
    if class_keys is None:
        if relabeled:
            manifest.loc[manifest["path"].isin(list(relabeled)), "synset"] = ""
        _fill_in_synsets(manifest)
    manifest["label"] = manifest["label"].astype("Int64")
    return manifest


def _locate_in_walk(paths: pa.LargeStringArray, walked: pa.LargeStringArray) -> NDArray[np.int64]:
    """Return the index of each listed path in the walk, or -1 if the walk did not find it."""
    found = pc.index_in(paths, walked).fill_null(-1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def _find_unlisted(
    walked: WalkedFiles, walk_index: NDArray[np.int64], dropped: Collection[str]
) -> dict[str, NDArray[Any]]:
    """Return the columns of the files that are not in any list, sorted by split and path."""
    is_listed = np.zeros(len(walked.sizes), np.bool_)
    is_listed[walk_index[walk_index >= 0]] = True
    rest = np.flatnonzero(~is_listed)
    is_file = walked.is_file
    rest_paths = walked.paths.take(pa.array(rest)).to_pylist()
    # Ignore links and FIFOs without an image suffix. They cannot be images that someone forgot to list.
    found = sorted(
        (path, at)
        for path, at in zip(rest_paths, rest.tolist(), strict=True)
        if (is_file[at] or _is_image(path)) and path not in dropped
    )
    count, index = len(found), np.array([at for _, at in found], np.int64)
    columns: dict[str, NDArray[Any]] = {name: np.zeros(count, np.int64) for name in NUMBERS}
    texts = {**dict.fromkeys(TEXTS, ""), "scan_level": "structure"}
    columns |= {name: np.full(count, text, object) for name, text in texts.items()}
    columns |= {name: np.full(count, np.nan, np.float32) for name in SCORES}
    columns["path"] = np.array([path for path, _ in found], object)
    columns["status"][:] = ["unlisted" if _is_image(path) else "other_file" for path, _ in found]
    columns["problem"][:] = [_UNLISTED[status] for status in columns["status"]]
    columns["split"] = np.array([path.partition("/")[0] for path, _ in found], object)
    columns["label"] = np.full(count, UNLISTED_LABEL, np.int64)
    columns["exif_orientation"][:] = 1
    columns["bytes"] = walked.sizes[index]
    return columns


def _is_image(path: str) -> bool:
    return is_image_name(path.rpartition("/")[2])


def _find_synsets(paths: NDArray[Any]) -> NDArray[Any]:
    """Return the class folder of each path. Paths in the same folder share one string object."""
    synset_of_folder: dict[str, str] = {}
    synsets = np.empty(len(paths), object)
    for index, path in enumerate(paths):
        folder = path.rpartition("/")[0]
        if folder not in synset_of_folder:
            synset_of_folder[folder] = _synset_of(path)
        synsets[index] = synset_of_folder[folder]
    return synsets


def _synset_of(path: str) -> str:
    """Return the class folder of `train/n01440764/….JPEG`, or "" for the flat `val/ILSVRC2012_val_….JPEG`."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""


def _fill_in_synsets(manifest: pd.DataFrame) -> None:
    """Fill in the synset of images in a flat folder if exactly one class folder in train/ has the same label."""
    unknown = manifest["synset"] == ""
    if not unknown.any():
        return
    train = manifest[(manifest["split"] == "train") & (manifest["synset"] != "") & (manifest["label"] >= 0)]
    folders = train[["label", "synset"]].drop_duplicates()
    synset_of_label = folders.drop_duplicates("label", keep=False).set_index("label")["synset"]
    manifest.loc[unknown, "synset"] = manifest.loc[unknown, "label"].map(synset_of_label).fillna("")
