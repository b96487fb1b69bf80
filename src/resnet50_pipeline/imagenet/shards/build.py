"""Builds a shard set from the images in both lists, in parallel. An interrupted build can be resumed.

    shard_set = build_shard_set(folder, {"train": SplitToPack(entries, images), …}, packing, images_per_shard=500)

Each shard is moved into place with a single rename, so the next build can keep the finished shards of a build that was
killed. `shard_set.json` is written last, and readers reject a folder without it.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.files import claiming_folder, digest_file, replacing_file, write_text
from resnet50_pipeline.imagenet.lists.files import SPLITS, ListEntries, Split
from resnet50_pipeline.imagenet.shards.fidelity import compare_pixels
from resnet50_pipeline.imagenet.shards.shard_set import (
    INDEX_DTYPE,
    SHARD_SET_FILE,
    Packing,
    Shard,
    ShardedSplit,
    ShardMode,
    ShardSet,
    digest_list,
)
from resnet50_pipeline.imagenet.shards.task import BuiltShard, PackedImages, ShardTask, build_shard
from resnet50_pipeline.imagenet.worker_pool import count_workers, map_in_processes
from resnet50_pipeline.parameters import ShardParameters
from resnet50_pipeline.progress import show_progress
from resnet50_pipeline.text import format_bytes, pluralize

logger = logging.getLogger(__name__)

# With fewer images, starting the processes takes longer than packing the images.
_MIN_IMAGES_FOR_POOL = 500
_MAX_PROBLEMS_LOGGED = 3
# Matches the shard names from `_plan` and the temporary names from `files.replacing_file`. It must not match other
# archives in the folder, such as ImageNet's class archives (`train/n01440764.tar`), which must never be deleted.
_SHARD_NAME = re.compile(r"\d{4,}(-.+)?-\d{3,}\.tar|\.\d{4,}(-.+)?-\d{3,}\.tar\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True, eq=False)
class SplitToPack:
    """A list and the locations of its images, in list order."""

    entries: ListEntries
    images: PackedImages


@dataclass(frozen=True, eq=False)
class _PlannedShard:
    """A shard to write, with the list rows it will contain."""

    split: Split
    name: str
    rows: NDArray[np.int64]


def resolve_packing(mode: ShardMode, parameters: ShardParameters) -> Packing:
    """Return the packing settings for a mode. Parameters that the mode does not use get fixed values."""
    if mode == "original":
        return Packing(mode=mode, jpeg_quality=0, interpolation="bilinear", opencv="")
    quality = parameters.jpeg_quality if mode == "jpeg-256" else 0
    return Packing(mode=mode, jpeg_quality=quality, interpolation=parameters.interpolation, opencv=cv2.__version__)


def build_shard_set(
    folder: Path,
    splits: Mapping[Split, SplitToPack],
    packing: Packing,
    *,
    images_per_shard: int,
    workers: int = 0,
    tiff: bool = False,
) -> ShardSet:
    """Pack the images in the given lists into a shard set.

    Args:
        folder: destination, created if needed. Existing shards with the same images and packing are kept if their
            checksums match. Shards that do not belong to the set are deleted.
        splits: lists and images, keyed by split.
        packing: how each image is packed.
        images_per_shard: maximum number of images per shard. Each shard contains images of one class.
        workers: number of processes; 0 means one per core.
        tiff: whether to accept TIFF files.

    Raises:
        DatasetError: if an image cannot be read or decoded or has changed since validation, or if a shard cannot be
            written or differs when read back. Finished shards are kept, but the set is incomplete.
        OutputDirectoryInUseError: if another process is building shards in the folder.
    """
    with _claiming_folder(folder):
        (folder / SHARD_SET_FILE).unlink(missing_ok=True)
        planned = [
            shard for split, listed in splits.items() for shard in _plan(split, listed.entries, images_per_shard)
        ]
        tasks = [
            ShardTask(folder / shard.name, packing, splits[shard.split].images.select(shard.rows.tolist()), tiff)
            for shard in planned
        ]
        built = _build_shards(tasks, workers)
        sharded = {
            split: _write_index(folder, split, listed.entries, *_select_split(split, planned, built))
            for split, listed in splits.items()
        }
        _delete_obsolete(folder, {shard.name for shard in planned}, {split.index for split in sharded.values()})
        shard_set = ShardSet(packing=packing, splits=sharded)
        if "val" in splits:
            fidelity = compare_pixels(folder, sharded["val"], splits["val"].images, tiff=tiff)
            shard_set = shard_set.model_copy(update={"fidelity": fidelity})
            logger.info("%s shards: %s", packing.mode, fidelity)
        write_text(folder / SHARD_SET_FILE, shard_set.to_json())
    return shard_set


def write_no_shard_set(folder: Path) -> ShardSet:
    """Record that training reads separate files. Existing shards are kept, because building them takes hours.

    Raises:
        DatasetError: if the record cannot be written.
        OutputDirectoryInUseError: if another process is building shards in the folder.
    """
    with _claiming_folder(folder):
        if left := [path for split in SPLITS for path in _find_shards(folder / split) if path.suffix == ".tar"]:
            logger.warning(
                "%s: ignoring %s (%s) from an earlier run because data_preparation.shards.mode is null → set the mode "
                "to reuse matching shards",
                folder,
                pluralize(len(left), "shard"),
                format_bytes(sum(path.stat().st_size for path in left)),
            )
        shard_set = ShardSet()
        write_text(folder / SHARD_SET_FILE, shard_set.to_json())
    return shard_set


@contextlib.contextmanager
def _claiming_folder(folder: Path) -> Iterator[None]:
    """Create a folder and lock it while the block runs. Convert write errors to DatasetError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with claiming_folder(folder, "is building shards in it"):
            yield
    except OSError as error:
        raise DatasetError(
            f"{error.filename or folder} cannot be written: {error.strerror} → free up space or make the folder "
            "writable, then try again (finished shards are kept)"
        ) from error


def _plan(split: Split, entries: ListEntries, images_per_shard: int) -> Iterator[_PlannedShard]:
    """Assign the images in a list to shards. Shards are ordered by label, and images within a shard by list order."""
    order = np.argsort(entries.labels, kind="stable")
    labels, starts = np.unique(entries.labels[order], return_index=True)
    for label, rows in zip(labels.tolist(), np.split(order, starts[1:]), strict=True):
        folders = entries.paths[int(rows[0])].split("/")[1:-1]
        stem = "-".join([f"{label:04d}", *folders])
        for number, start in enumerate(range(0, len(rows), images_per_shard)):
            yield _PlannedShard(split, f"{split}/{stem}-{number:03d}.tar", rows[start : start + images_per_shard])


def _build_shards(tasks: Sequence[ShardTask], workers: int) -> list[BuiltShard]:
    total = sum(len(task.images) for task in tasks)
    workers = count_workers(workers)
    if workers == 1 or len(tasks) == 1 or total < _MIN_IMAGES_FOR_POOL:
        results: Iterator[BuiltShard] = map(build_shard, tasks)
    else:
        results = map_in_processes(build_shard, tasks, workers, setting="data_preparation.shards.workers")
    built = []
    with show_progress(total, what="packing images") as advance:
        for task, shard in zip(tasks, results, strict=True):
            built.append(shard)
            advance(len(task.images))
    kept = sum(shard.is_kept for shard in built)
    problems = [shard.problem for shard in built if shard.problem]
    logger.info(
        "%s with %s: %d built, %d kept",
        pluralize(len(built), "shard"),
        pluralize(total, "image"),
        len(built) - kept,
        kept,
    )
    for problem in problems[:_MAX_PROBLEMS_LOGGED]:
        logger.warning("rebuilt: %s", problem)
    if len(problems) > _MAX_PROBLEMS_LOGGED:
        logger.warning("rebuilt: ... and %d more", len(problems) - _MAX_PROBLEMS_LOGGED)
    return built


def _select_split(
    split: Split, planned: Sequence[_PlannedShard], built: Sequence[BuiltShard]
) -> tuple[list[_PlannedShard], list[BuiltShard]]:
    numbers = [number for number, shard in enumerate(planned) if shard.split == split]
    return [planned[number] for number in numbers], [built[number] for number in numbers]


def _write_index(
    folder: Path, split: Split, entries: ListEntries, planned: Sequence[_PlannedShard], built: Sequence[BuiltShard]
) -> ShardedSplit:
    index = np.zeros(len(entries), dtype=INDEX_DTYPE)
    for number, (shard, result) in enumerate(zip(planned, built, strict=True)):
        rows = result.content.rows.copy()
        rows["shard"] = number
        index[shard.rows] = rows
    index["label"] = entries.labels
    path = folder / f"{split}.npy"
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, index, allow_pickle=False)
    return ShardedSplit(
        images=len(entries),
        list_digest=digest_list(entries),
        index=path.name,
        index_digest=digest_file(path),
        shards=tuple(
            Shard(name=shard.name, bytes=result.content.bytes, images=len(result.content.rows), source=result.source)
            for shard, result in zip(planned, built, strict=True)
        ),
    )


def _delete_obsolete(folder: Path, shards: set[str], indexes: set[str]) -> None:
    """Delete the shards, indexes and partial files that are not part of this set. Keep all other files."""
    for split in SPLITS:
        for path in _find_shards(folder / split):
            if f"{split}/{path.name}" not in shards:
                path.unlink()
        if f"{split}.npy" not in indexes:
            (folder / f"{split}.npy").unlink(missing_ok=True)


def _find_shards(folder: Path) -> list[Path]:
    """Return all shards in a split's folder, including old and partially written ones."""
    return [path for path in folder.glob("*") if _SHARD_NAME.fullmatch(path.name)]
