"""Reads a whole shard set and compares every member with the digest that the index has of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DamagedShardsError, DatasetError, DatasetNotFoundError
from resnet50_pipeline.imagenet.inspection_pool import count_workers, map_in_processes
from resnet50_pipeline.imagenet.shard_set import Shard, ShardedSplit, read_shard_set
from resnet50_pipeline.imagenet.shard_source import open_index
from resnet50_pipeline.imagenet.shard_tar import read_shard
from resnet50_pipeline.progress import show_progress

# With less to read, starting the processes takes longer.
_BYTES_WORTH_A_POOL = 1_000_000_000
_COMPARED = ("offset", "size", "digest")


@dataclass(frozen=True)
class VerifiedShards:
    """What was read, and is as it was packed."""

    shards: int
    images: int
    bytes: int


@dataclass(frozen=True, eq=False)
class _Task:
    folder: Path
    shard: Shard
    rows: NDArray[np.void]


def verify_shard_set(folder: Path, workers: int = 0) -> VerifiedShards:
    """Read every shard of a set, and make sure that each member has the digest that the index has of it.

    Args:
        folder: of the set.
        workers: processes that read; 0 means one a core.

    Raises:
        DatasetNotFoundError: the folder has no shards.
        DatasetError: the set is not finished, or its description or an index is damaged.
        DamagedShardsError: with every shard that is.
    """
    splits = read_shard_set(folder).splits
    if not splits:
        raise DatasetNotFoundError(
            f"{folder}: has no shards: data_preparation.shards.mode was null → set it, and run data_preparation"
        )
    tasks = [task for split in splits.values() for task in _plan(folder, split)]
    total = sum(task.shard.bytes for task in tasks)
    workers = count_workers(workers)
    if workers == 1 or total < _BYTES_WORTH_A_POOL:
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
    # Within a shard, members stand in the order of the list.
    order = np.argsort(index["shard"], kind="stable")
    ends = np.cumsum([shard.images for shard in split.shards])
    for shard, places in zip(split.shards, np.split(order, ends[:-1]), strict=True):
        yield _Task(folder, shard, np.array(index[places]))


def _verify(task: _Task) -> str:
    """Return what is wrong with a shard, or an empty string."""
    path = task.folder / task.shard.name
    try:
        found = read_shard(path, task.shard.source).rows
    except DatasetError as error:
        return str(error)
    if len(found) == len(task.rows) and all(np.array_equal(found[name], task.rows[name]) for name in _COMPARED):
        return ""
    return (
        f"{path}: is whole, but has other members than the index says → delete it, and run data_preparation again, "
        "which makes what is missing"
    )
