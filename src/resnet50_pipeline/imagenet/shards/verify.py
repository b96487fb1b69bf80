"""Verifies an entire shard set by comparing every member with its digest in the index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DamagedShardsError, DatasetError, DatasetNotFoundError
from resnet50_pipeline.imagenet.shards.shard_set import Shard, ShardedSplit, read_shard_set
from resnet50_pipeline.imagenet.shards.source import open_index
from resnet50_pipeline.imagenet.shards.tar import read_shard
from resnet50_pipeline.imagenet.worker_pool import count_workers, map_in_processes
from resnet50_pipeline.progress import show_progress

# With less data, starting the processes takes longer than reading the data.
_MIN_BYTES_FOR_POOL = 1_000_000_000
_COMPARED = ("offset", "size", "digest")


@dataclass(frozen=True)
class VerifiedShards:
    """Totals of a verified set: shards, images and bytes."""

    shards: int
    images: int
    bytes: int


@dataclass(frozen=True, eq=False)
class _Task:
    folder: Path
    shard: Shard
    rows: NDArray[np.void]


def verify_shard_set(folder: Path, workers: int = 0) -> VerifiedShards:
    """Read every shard of a set and compare each member with its digest in the index.

    Args:
        folder: folder of the set.
        workers: number of reader processes; 0 means one per core.

    Raises:
        DatasetNotFoundError: if the folder has no shards.
        DatasetError: if the set is unfinished, or its description or an index is damaged.
        DamagedShardsError: if shards are damaged; the message lists each one.
    """
    splits = read_shard_set(folder).splits
    if not splits:
        raise DatasetNotFoundError(
            f"{folder} contains no shards because data_preparation.shards.mode was null → set the mode and run "
            "data_preparation"
        )
    tasks = [task for split in splits.values() for task in _plan(folder, split)]
    total = sum(task.shard.bytes for task in tasks)
    workers = count_workers(workers)
    if workers == 1 or total < _MIN_BYTES_FOR_POOL:
        results: Iterator[str] = map(_verify, tasks)
    else:
        results = map_in_processes(_verify, tasks, workers, setting="--workers")
    problems = []
    with show_progress(total, what="reading shards", unit="bytes") as advance:
        for task, problem in zip(tasks, results, strict=True):
            problems += [problem] if problem else []
            advance(task.shard.bytes)
    if problems:
        raise DamagedShardsError(problems)
    return VerifiedShards(len(tasks), sum(task.shard.images for task in tasks), total)


def _plan(folder: Path, split: ShardedSplit) -> Iterator[_Task]:
    index = open_index(folder / split.index, split)
    # The members of a shard are in list order, so a stable sort by shard yields their order.
    order = np.argsort(index["shard"], kind="stable")
    ends = np.cumsum([shard.images for shard in split.shards])
    for shard, places in zip(split.shards, np.split(order, ends[:-1]), strict=True):
        yield _Task(folder, shard, np.array(index[places]))


def _verify(task: _Task) -> str:
    """Return the problem with a shard, or an empty string."""
    path = task.folder / task.shard.name
    try:
        found = read_shard(path, task.shard.source).rows
    except DatasetError as error:
        return str(error)
    if len(found) == len(task.rows) and all(np.array_equal(found[name], task.rows[name]) for name in _COMPARED):
        return ""
    return (
        f"{path} is intact, but its members do not match the index → move the shard elsewhere and run data_preparation "
        "again, which builds missing shards"
    )
