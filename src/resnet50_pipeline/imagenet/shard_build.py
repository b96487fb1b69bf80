"""Packs the images of both lists into a shard set: by many processes, and again and again until it is whole.

    shard_set = build_shard_set(folder, {"train": (entries, images), "val": (entries, images)}, packing)

A shard appears by one rename and is kept from then on, whatever ends the run. What the set is made of is written last.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.files import claiming_folder, digest_file, replacing_file, write_text
from resnet50_pipeline.imagenet.inspection_pool import count_workers, map_in_processes
from resnet50_pipeline.imagenet.list_files import SPLITS, ListEntries, Split
from resnet50_pipeline.imagenet.shard_fidelity import compare_pixels
from resnet50_pipeline.imagenet.shard_set import (
    INDEX_DTYPE,
    SHARD_SET_FILE,
    Packing,
    Shard,
    ShardedSplit,
    ShardMode,
    ShardSet,
    digest_list,
)
from resnet50_pipeline.imagenet.shard_task import MadeShard, PackedImages, ShardTask, make_shard
from resnet50_pipeline.parameters import ShardParameters
from resnet50_pipeline.progress import show_progress

logger = logging.getLogger(__name__)

# With fewer, starting the processes takes longer than packing.
_IMAGES_WORTH_A_POOL = 500
_PROBLEMS_SHOWN = 3
# As `_plan` and `files.replacing_file` call them. A folder may have archives of other kinds beside them, as ImageNet's
# of one class each (`train/n01440764.tar`), which are nobody's to delete.
_SHARD_NAME = re.compile(r"\d{4,}(-.+)?-\d{3,}\.tar|\.\d{4,}(-.+)?-\d{3,}\.tar\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True, eq=False)
class SplitToPack:
    """One list and where its images are, in its order."""

    entries: ListEntries
    images: PackedImages


@dataclass(frozen=True, eq=False)
class _Planned:
    """A shard and the rows of the list that are in it."""

    split: Split
    name: str
    places: NDArray[np.int64]


def describe_packing(mode: ShardMode, parameters: ShardParameters) -> Packing:
    """Return what is done to the images in a mode; what has no influence on it has its default."""
    if mode == "original":
        return Packing(mode=mode, jpeg_quality=0, interpolation="bilinear", opencv="")
    quality = parameters.jpeg_quality if mode == "jpeg-256" else 0
    return Packing(mode=mode, jpeg_quality=quality, interpolation=parameters.interpolation, opencv=cv2.__version__)


def build_shard_set(
    folder: Path, splits: Mapping[Split, SplitToPack], packing: Packing, *, images_per_shard: int, workers: int = 0
) -> ShardSet:
    """Make the shard set of both lists in a folder, and return what it is made of.

    Args:
        folder: is made; shards that are there and made of the same images in the same way are read, compared with
            their checksums, and kept. Those that do not belong to the set are deleted.
        splits: what is packed.
        packing: what is done to each image.
        images_per_shard: at most; a shard has images of one class.
        workers: processes; 0 means one a core.

    Raises:
        DatasetError: an image cannot be read or decoded or is not what was validated; a shard cannot be written, or is
            not what was written. Finished shards stay, and no set is there.
        OutputDirectoryInUseError: another process makes shards in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with claiming_folder(folder, "makes shards in it"):
        (folder / SHARD_SET_FILE).unlink(missing_ok=True)
        planned = [
            shard for split, listed in splits.items() for shard in _plan(split, listed.entries, images_per_shard)
        ]
        made = _make_shards(folder, splits, packing, planned, workers)
        sharded = {
            split: _write_index(folder, split, listed.entries, *_of_split(split, planned, made))
            for split, listed in splits.items()
        }
        _delete_others(folder, {shard.name for shard in planned}, {split.index for split in sharded.values()})
        shard_set = ShardSet(packing=packing, splits=sharded)
        if "val" in splits:
            fidelity = compare_pixels(folder, sharded["val"], splits["val"].images)
            shard_set = shard_set.model_copy(update={"fidelity": fidelity})
            logger.info("%s shards: %s", packing.mode, fidelity)
        write_text(folder / SHARD_SET_FILE, shard_set.to_json())
    return shard_set


def write_no_shard_set(folder: Path) -> ShardSet:
    """Write that there are no shards: images are loose files. Shards of before stay, for making them took hours."""
    folder.mkdir(parents=True, exist_ok=True)
    with claiming_folder(folder, "makes shards in it"):
        if left := [path for split in SPLITS for path in _find_shards(folder / split) if path.suffix == ".tar"]:
            logger.warning(
                "%s: %d shards (%.1f GB) of a former run stay there and are not read, for data_preparation.shards.mode "
                "is null; delete the folder, or set the mode again, which keeps what fits",
                folder,
                len(left),
                sum(path.stat().st_size for path in left) / 1e9,
            )
        shard_set = ShardSet()
        write_text(folder / SHARD_SET_FILE, shard_set.to_json())
    return shard_set


def _plan(split: Split, entries: ListEntries, images_per_shard: int) -> Iterator[_Planned]:
    """Yield the shards of a list: class by class, images in the list's order."""
    order = np.argsort(entries.labels, kind="stable")
    labels, starts = np.unique(entries.labels[order], return_index=True)
    for label, places in zip(labels.tolist(), np.split(order, starts[1:]), strict=True):
        folders = entries.paths[int(places[0])].split("/")[1:-1]
        stem = "-".join([f"{label:04d}", *folders])
        for number, start in enumerate(range(0, len(places), images_per_shard)):
            yield _Planned(split, f"{split}/{stem}-{number:03d}.tar", places[start : start + images_per_shard])


def _make_shards(
    folder: Path, splits: Mapping[Split, SplitToPack], packing: Packing, planned: Sequence[_Planned], workers: int
) -> list[MadeShard]:
    tasks = [
        ShardTask(folder / shard.name, packing, splits[shard.split].images.select(shard.places.tolist()))
        for shard in planned
    ]
    total = sum(len(task.images) for task in tasks)
    workers = count_workers(workers)
    if workers == 1 or len(tasks) == 1 or total < _IMAGES_WORTH_A_POOL:
        results: Iterator[MadeShard] = map(make_shard, tasks)
    else:
        results = map_in_processes(make_shard, tasks, workers, setting="data_preparation.shards.workers")
    made = []
    with show_progress(total, what="packing images") as advance:
        for task, shard in zip(tasks, results, strict=True):
            made.append(shard)
            advance(len(task.images))
    kept = sum(shard.is_kept for shard in made)
    problems = [shard.problem for shard in made if shard.problem]
    logger.info("%d shards with %d images: %d made, %d kept", len(made), total, len(made) - kept, kept)
    for problem in problems[:_PROBLEMS_SHOWN]:
        logger.warning("made anew: %s", problem)
    if len(problems) > _PROBLEMS_SHOWN:
        logger.warning("made anew: ... and %d more", len(problems) - _PROBLEMS_SHOWN)
    return made


def _of_split(
    split: Split, planned: Sequence[_Planned], made: Sequence[MadeShard]
) -> tuple[list[_Planned], list[MadeShard]]:
    places = [number for number, shard in enumerate(planned) if shard.split == split]
    return [planned[place] for place in places], [made[place] for place in places]


def _write_index(
    folder: Path, split: Split, entries: ListEntries, planned: Sequence[_Planned], made: Sequence[MadeShard]
) -> ShardedSplit:
    index = np.zeros(len(entries), dtype=INDEX_DTYPE)
    for number, (shard, result) in enumerate(zip(planned, made, strict=True)):
        rows = result.content.rows.copy()
        rows["shard"] = number
        index[shard.places] = rows
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
            for shard, result in zip(planned, made, strict=True)
        ),
    )


def _delete_others(folder: Path, shards: set[str], indexes: set[str]) -> None:
    """Delete shards and indexes of another set, and what a killed run left half-written; nothing else."""
    for split in SPLITS:
        for path in _find_shards(folder / split):
            if f"{split}/{path.name}" not in shards:
                path.unlink()
        if f"{split}.npy" not in indexes:
            (folder / f"{split}.npy").unlink(missing_ok=True)


def _find_shards(folder: Path) -> list[Path]:
    """Return the shards of any set in a split's folder, half-written ones too."""
    return [path for path in folder.glob("*") if _SHARD_NAME.fullmatch(path.name)]
