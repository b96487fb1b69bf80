"""Reads the images in a list from shards, using a memory-mapped index and one `pread` per image."""

from __future__ import annotations

import os
import resource
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from resnet50_pipeline.exceptions import DatasetError, ImageDecodeError
from resnet50_pipeline.files import digest_file
from resnet50_pipeline.imagenet.image_source import ImageSource, LooseFiles
from resnet50_pipeline.imagenet.lists.files import ListEntries
from resnet50_pipeline.imagenet.shards.shard_set import INDEX_DTYPE, ShardedSplit, digest_list, read_shard_set
from resnet50_pipeline.text import pluralize

# Descriptors reserved for everything else: lists, logs, sockets and Paddle's files.
_OTHER_DESCRIPTORS = 256
_AGAIN = "run data_preparation again, which keeps intact shards"


def open_images(entries: ListEntries, image_root: Path, shards: Path | None) -> ImageSource:
    """Open the images in a list, either in shards or as separate files.

    Args:
        entries: entries in the list.
        image_root: folder of the separate files.
        shards: shard set folder; None reads separate files.

    Raises:
        DatasetError: if the set is unfinished or damaged, or was not packed from this list.
    """
    if shards is None:
        return LooseFiles(entries, image_root)
    return ShardedImages(shards, find_split(shards, entries), entries.paths)


def find_split(folder: Path, entries: ListEntries) -> ShardedSplit:
    """Return the part of a shard set that was packed from a list.

    Raises:
        DatasetError: if the set was not packed from this list, or is unfinished or damaged.
    """
    digest = digest_list(entries)
    splits = read_shard_set(folder).splits
    for split in splits.values():
        if split.list_digest == digest:
            return split
    packed = ", ".join(f"{name} with {pluralize(split.images, 'image')}" for name, split in splits.items()) or "no list"
    raise DatasetError(
        f"{folder} was not packed from the current {entries.source} ({pluralize(len(entries), 'image')}, "
        f"{digest:.23}…), but from {packed} → {_AGAIN}"
    )


class ShardedImages:
    """Reads the images in one list from shards.

    Descriptors are opened on first use and stay open, even across a fork. Processes and threads share them without a
    lock, because `pread` neither uses nor changes the file position.
    """

    def __init__(self, folder: Path, split: ShardedSplit, paths: Sequence[str]) -> None:
        """Open the index and check the size of every shard.

        Args:
            folder: folder of the set.
            split: part of the set that was packed from the list.
            paths: paths in the list, used in messages.

        Raises:
            DatasetError: if the index is damaged or belongs to another set, or a shard is missing or has the wrong
                size.
        """
        self._folder, self._split, self._paths = folder, split, paths
        self._index = open_index(folder / split.index, split)
        for shard in split.shards:
            _require_size(folder / shard.name, shard.bytes)
        self._descriptors: dict[int, int] = {}
        self._max_open_shards = _reserve_descriptors(len(split.shards))
        weakref.finalize(self, _close, self._descriptors)

    def __reduce__(self) -> tuple[Callable[..., ShardedImages], tuple[object, ...]]:
        """Reopen the shards when unpickled, because file descriptors are not valid in another process."""
        return ShardedImages, (self._folder, self._split, self._paths)

    def read(self, row: int) -> bytes:
        """Return the packed bytes of an image.

        Raises:
            ImageDecodeError: if the bytes cannot be read.
        """
        entry = self._index[row]
        shard, offset, size = int(entry["shard"]), int(entry["offset"]), int(entry["size"])
        try:
            data = self._pread(shard, offset, size)
        except OSError as error:
            raise ImageDecodeError(f"{self.name(row)} cannot be read: {error.strerror} → {_AGAIN}") from error
        if len(data) != size:
            raise ImageDecodeError(
                f"{self.name(row)} has {len(data)} bytes, but the index expects {size}; the shard was truncated after "
                f"it was opened → {_AGAIN}"
            )
        return data

    def name(self, row: int) -> str:
        """Return the path of the shard and the path of the image."""
        shard = self._split.shards[int(self._index[row]["shard"])]
        return f"{self._folder / shard.name}: {self._paths[row]}"

    def packed_digest(self, row: int) -> bytes:
        """Return the SHA-256 of an image's packed bytes, as recorded when the image was packed."""
        return bytes(self._index[row]["digest"])

    def rows_by_shard(self) -> list[list[int]]:
        """Return the rows for each shard, in member order."""
        order = np.argsort(self._index["shard"], kind="stable")
        ends = np.cumsum([shard.images for shard in self._split.shards])
        return [rows.tolist() for rows in np.split(order, ends[:-1])]

    def _pread(self, shard: int, offset: int, size: int) -> bytes:
        descriptor = self._descriptors.get(shard)
        if descriptor is not None:
            return os.pread(descriptor, size, offset)
        descriptor = _open_shard(self._folder / self._split.shards[shard].name)
        if (
            len(self._descriptors) < self._max_open_shards
            and self._descriptors.setdefault(shard, descriptor) == descriptor
        ):
            return os.pread(descriptor, size, offset)
        try:  # another thread opened the shard first, or too many shards are open, so use the descriptor only once
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


def open_index(path: Path, split: ShardedSplit) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Open the index of a split as a memory-mapped array.

    Raises:
        DatasetError: if the index is damaged or belongs to another set.
    """
    try:
        digest = digest_file(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror} → {_AGAIN}") from error
    if digest != split.index_digest:
        raise DatasetError(
            f"{path} is damaged or belongs to another shard set: its digest is {digest:.23}…, but shard_set.json "
            f"expects {split.index_digest:.23}… → {_AGAIN}"
        )
    index = np.load(path, mmap_mode="r", allow_pickle=False)
    if index.dtype != INDEX_DTYPE or index.shape != (split.images,):
        raise DatasetError(
            f"{path}: the index has shape {index.shape} and type {index.dtype}, but {split.images} rows of "
            f"{INDEX_DTYPE} are expected → {_AGAIN}"
        )
    _require_rows_inside_shards(path, index, split)
    loaded: np.ndarray[tuple[int], np.dtype[np.void]] = index
    return loaded


def _require_rows_inside_shards(
    path: Path, index: np.ndarray[tuple[int], np.dtype[np.void]], split: ShardedSplit
) -> None:
    """Raise an error if a row refers to a nonexistent shard, or to bytes beyond the end of its shard."""
    ends = np.array([shard.bytes for shard in split.shards], dtype=np.uint64)
    # Compare offset and size separately, because their sum could overflow. A nonexistent shard ends at 0.
    end = np.zeros(len(index), dtype=np.uint64)
    is_in_set = index["shard"] < len(ends)
    end[is_in_set] = ends[index["shard"][is_in_set]]
    is_inside = is_in_set & (index["offset"] <= end) & (index["size"] <= end - np.minimum(index["offset"], end))
    if not is_inside.all():
        row = int(np.flatnonzero(~is_inside)[0])
        shard, offset, size = (int(index[row][name]) for name in ("shard", "offset", "size"))
        raise DatasetError(
            f"{path}: row {row} points to {size} bytes at offset {offset} of shard {shard}, "
            f"{f'which has {int(end[row])} bytes' if is_in_set[row] else f'but the set has {len(ends)} shards'} → "
            f"{_AGAIN}"
        )


def _require_size(path: Path, size: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror} → {_AGAIN}") from error
    if found != size:
        what = "is truncated" if found < size else "has extra bytes"
        raise DatasetError(f"{path} {what}: it has {found} bytes, but the shard set expects {size} → {_AGAIN}")


def _close(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def _open_shard(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    # Images are read in random order, so read-ahead would load bytes that are never used.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    return descriptor


def _reserve_descriptors(shards: int) -> int:
    """Raise the process's limit on open files if needed, and return how many shards may stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = shards + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return shards if soft == resource.RLIM_INFINITY else max(0, min(shards, soft - _OTHER_DESCRIPTORS))
