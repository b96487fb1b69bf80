"""One pass over all images of a dataset folder: the manifest, which everybody else reads."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.archived_images import ArchivedImages
from resnet50_pipeline.imagenet.inspection import ScanLevel
from resnet50_pipeline.imagenet.inspection_pool import (
    Executor,
    InspectionTask,
    choose_executor,
    count_workers,
    split_into_tasks,
)
from resnet50_pipeline.imagenet.list_files import ListEntries, Split
from resnet50_pipeline.imagenet.list_generation import IMAGE_SUFFIXES
from resnet50_pipeline.imagenet.manifest import MANIFEST_COLUMNS, UNLISTED_LABEL
from resnet50_pipeline.imagenet.scan_cache import ScanCache
from resnet50_pipeline.imagenet.scan_rows import NUMBERS, SETTLED_NS, TEXTS, ScanRows
from resnet50_pipeline.imagenet.walk import WalkedFiles, add_archived, walk_splits
from resnet50_pipeline.progress import show_progress

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_CHECKPOINTS = 5.0
_UNLISTED = "is in no list → add a line for it, or delete it"


def scan_dataset(
    root: Path,
    lists: Mapping[Split, ListEntries],
    workers: int = 0,
    *,
    level: ScanLevel = "full",
    cache_dir: Path | None = None,
    executor: Executor | None = None,
    archived: Mapping[Split, ArchivedImages] | None = None,
) -> pd.DataFrame:
    """Walk the dataset folder, and inspect every listed image as far as `level` asks.

    What is wrong with an image stands in its row (`status`, `problem`); nothing of it is raised. A row's `scan_level`
    says how far its image was looked at: as far as `level` asks, or further by a former scan, where it is as it was.
    At level structure nothing is taken from former scans.

    Args:
        root: dataset folder.
        lists: by split, entries with paths relative to `root`.
        workers: processes that walk and read; 0 means one a core.
        level: what is looked at; see `imagenet.inspection`.
        cache_dir: what former scans found at this level or a higher one is taken from there for every file of the
            same size and time of change, and what this one finds is kept there, every few seconds.
        executor: who reads the images; by default, processes of this machine.
        archived: of the splits whose images lie in archives, from where they are read. Below the folder nothing of
            these splits is looked at, and the manifest is the one that the unpacked images would have.

    Returns:
        The manifest, columns `MANIFEST_COLUMNS`: one row a list entry, train first, in the order of the lists; then
        one row an image that no list names, with label -1, status "unlisted", and nothing of its content.

    Raises:
        DatasetError: a folder cannot be walked, or a process that read images was killed.
    """
    start, start_ns = time.monotonic(), time.time_ns()
    real_root, archived = root.resolve(), archived or {}
    workers = count_workers(workers)
    walked = walk_splits(real_root, [split for split in lists if split not in archived], workers)
    walked = add_archived(walked, archived)
    paths = pa.array([path for entries in lists.values() for path in entries.paths], pa.large_string())
    place = _find_places(paths, walked.paths)
    rows = ScanRows(paths, walked, place, level)
    rows.miss_in_archives({split: slice(*bounds) for split, bounds in _find_bounds(lists) if split in archived})
    cache = None
    if cache_dir is not None and level != "structure":
        fingerprints = [one for images in archived.values() for one in images.fingerprint]
        # An archive that is still being copied is read, but not believed to stay as it is.
        if all(mtime_ns < start_ns - SETTLED_NS for _, _, mtime_ns in fingerprints):
            cache = ScanCache(cache_dir, real_root, fingerprints)
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


def _inspect(root: Path, rows: ScanRows, executor: Executor, cache: ScanCache | None, start_ns: int) -> int:
    """Inspect what is not known, add it to the cache every few seconds, and return how many images that were."""
    order, tasks = _plan(root, rows)
    if not tasks:
        return 0
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


def _plan(root: Path, rows: ScanRows) -> tuple[NDArray[np.int64], list[InspectionTask]]:
    """Return the rows that are to be inspected, in the order in which the tasks have their images.

    Loose files come in the order of the lists, where neighbours lie in one folder; then those of each archive in the
    order in which they lie there; what is no plain file comes last.
    """
    tasks: list[InspectionTask] = []
    parts: list[NDArray[np.int64]] = []

    def add(index: NDArray[np.int64], *, is_walked: bool, archive: int = -1) -> None:
        paths = rows.paths.take(pa.array(index)).to_pylist()
        sizes = rows.columns["bytes"][index].tolist() if is_walked else []
        task = InspectionTask(str(root), paths, rows.level, is_walked, sizes=sizes)
        if archive >= 0:
            task = replace(task, archive=str(rows.archives[archive]), offsets=rows.offsets[index].tolist())
        tasks.extend(split_into_tasks(task))
        parts.append(index)

    is_loose = rows.file_numbers < 0
    add(np.flatnonzero(rows.is_open & rows.is_walked & is_loose), is_walked=True)
    packed = np.flatnonzero(rows.is_open & ~is_loose)
    packed = packed[np.lexsort((rows.offsets[packed], rows.file_numbers[packed]))]
    ends = np.searchsorted(rows.file_numbers[packed], np.arange(len(rows.archives) + 1))
    for archive in range(len(rows.archives)):
        add(packed[ends[archive] : ends[archive + 1]], is_walked=True, archive=archive)
    add(np.flatnonzero(rows.is_open & ~rows.is_walked), is_walked=False)
    return np.concatenate(parts), tasks


def _find_bounds(lists: Mapping[Split, ListEntries]) -> Iterator[tuple[Split, tuple[int, int]]]:
    """Yield each split with the first of its rows, and the first behind them."""
    start = 0
    for split, entries in lists.items():
        yield split, (start, start + len(entries))
        start += len(entries)


def _build_manifest(
    rows: ScanRows, lists: Mapping[Split, ListEntries], walked: WalkedFiles, place: NDArray[np.int64]
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
    columns: dict[str, NDArray[Any]] = {name: np.zeros(count, np.int64) for name in NUMBERS}
    texts = {**dict.fromkeys(TEXTS, ""), "scan_level": "structure", "status": "unlisted", "problem": _UNLISTED}
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
