"""Packs small datasets into shards, without a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet50_pipeline.imagenet.lists.files import SPLITS, ListEntries, Split, read_list_file
from resnet50_pipeline.imagenet.shards.build import SplitToPack, build_shard_set, resolve_packing
from resnet50_pipeline.imagenet.shards.shard_set import ShardMode, ShardSet
from resnet50_pipeline.imagenet.shards.task import PackedImages
from resnet50_pipeline.parameters import ShardParameters


def read_lists(root: Path, class_num: int) -> dict[Split, ListEntries]:
    """Return the entries of both lists in a folder. The paths must already have their prefix."""
    return {split: read_list_file(root / f"{split}_list.txt", class_num) for split in SPLITS}


def loose_images(root: Path, entries: ListEntries) -> PackedImages:
    """Return the locations of a list's images, without digests."""
    count = len(entries)
    files = [str(root / path) for path in entries.paths]
    return PackedImages(list(entries.paths), files, [0] * count, [-1] * count, [""] * count)


def pack(
    root: Path, folder: Path, mode: ShardMode, class_num: int, *, images_per_shard: int = 5, **parameters: Any
) -> ShardSet:
    """Pack both lists of a dataset into shards of five images. Keywords are fields of `ShardParameters`."""
    lists: Mapping[Split, ListEntries] = read_lists(root, class_num)
    return build_shard_set(
        folder,
        {split: SplitToPack(entries, loose_images(root, entries)) for split, entries in lists.items()},
        resolve_packing(mode, ShardParameters(**parameters)),
        images_per_shard=images_per_shard,
        workers=1,
    )


def files_of(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, including hidden ones, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
