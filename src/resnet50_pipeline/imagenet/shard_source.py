"""The images of a list out of shards: an index in memory that all processes share, and one pread an image."""

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
from resnet50_pipeline.imagenet.list_files import ListEntries
from resnet50_pipeline.imagenet.shard_set import INDEX_DTYPE, ShardedSplit, digest_list, read_shard_set

# What a process needs besides shards: lists, logs, sockets, what Paddle opens.
_OTHER_DESCRIPTORS = 256
_AGAIN = "run data_preparation again, which keeps the shards that are whole"


def open_images(entries: ListEntries, image_root: Path, shards: Path | None) -> ImageSource:
    """Return where the images of a list come from.

    Args:
        entries: of the list.
        image_root: folder of the loose files.
        shards: folder of a shard set; None reads loose files.

    Raises:
        DatasetError: the set is not finished or damaged, or is not of this list.
    """
    if shards is None:
        return LooseFiles(entries, image_root)
    return ShardedImages(shards, find_split(shards, entries), entries.paths)


def find_split(folder: Path, entries: ListEntries) -> ShardedSplit:
    """Return the part of a shard set that is of a list.

    Raises:
        DatasetError: there is none, or the set is not finished or damaged.
    """
    digest = digest_list(entries)
    splits = read_shard_set(folder).splits
    for split in splits.values():
        if split.list_digest == digest:
            return split
    packed = ", ".join(f"{name} with {split.images} images" for name, split in splits.items()) or "no list"
    raise DatasetError(
        f"{folder}: has not been packed from {entries.source} as it is now ({len(entries)} images, {digest:.23}…), but "
        f"from {packed} → {_AGAIN}"
    )


class ShardedImages:
    """The images of one list that are packed in shards.

    Descriptors are opened when they are first needed and stay open, in a process and in those that are forked from it:
    a file has no position that they could dispute, for pread is told where to read.
    """

    def __init__(self, folder: Path, split: ShardedSplit, paths: Sequence[str]) -> None:
        """Open the index, and look at every shard's size.

        Args:
            folder: of the set.
            split: the part of the set that is of the list.
            paths: of the list, for messages.

        Raises:
            DatasetError: the index is that of another set or damaged, or a shard is missing or has another size.
        """
        self._folder, self._split, self._paths = folder, split, paths
        self._index = open_index(folder / split.index, split)
        for shard in split.shards:
            _require_size(folder / shard.name, shard.bytes)
        self._descriptors: dict[int, int] = {}
        self._kept_open = _reserve_descriptors(len(split.shards))
        weakref.finalize(self, _close, self._descriptors)

    def __reduce__(self) -> tuple[Callable[..., ShardedImages], tuple[object, ...]]:
        """Open it anew where it is sent to: a descriptor means nothing to another process."""
        return ShardedImages, (self._folder, self._split, self._paths)

    def read(self, row: int) -> bytes:
        """Return the bytes that are packed for an image.

        Raises:
            ImageDecodeError: they cannot be read.
        """
        entry = self._index[row]
        shard, offset, size = int(entry["shard"]), int(entry["offset"]), int(entry["size"])
        try:
            data = self._pread(shard, offset, size)
        except OSError as error:
            raise ImageDecodeError(f"{self.name(row)}: cannot be read: {error.strerror} → {_AGAIN}") from error
        if len(data) != size:
            raise ImageDecodeError(
                f"{self.name(row)}: has {len(data)} bytes, and the index expects {size}: the shard was cut off since "
                f"it was opened → {_AGAIN}"
            )
        return data

    def name(self, row: int) -> str:
        """Return the shard's path and the image's."""
        shard = self._split.shards[int(self._index[row]["shard"])]
        return f"{self._folder / shard.name}: {self._paths[row]}"

    def _pread(self, shard: int, offset: int, size: int) -> bytes:
        descriptor = self._descriptors.get(shard)
        if descriptor is not None:
            return os.pread(descriptor, size, offset)
        descriptor = _open_shard(self._folder / self._split.shards[shard].name)
        if len(self._descriptors) < self._kept_open and self._descriptors.setdefault(shard, descriptor) == descriptor:
            return os.pread(descriptor, size, offset)
        try:  # another thread was quicker, or the system allows no more open files
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


def open_index(path: Path, split: ShardedSplit) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Return the index of a split, mapped from its file.

    Raises:
        DatasetError: it is that of another set, or damaged.
    """
    try:
        digest = digest_file(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror} → {_AGAIN}") from error
    if digest != split.index_digest:
        raise DatasetError(
            f"{path}: is not the index of this shard set, or damaged: its digest is {digest:.23}…, and shard_set.json "
            f"expects {split.index_digest:.23}… → {_AGAIN}"
        )
    index = np.load(path, mmap_mode="r", allow_pickle=False)
    if index.dtype != INDEX_DTYPE or index.shape != (split.images,):
        raise DatasetError(
            f"{path}: has {index.shape} rows of {index.dtype}, not {split.images} of an index → {_AGAIN}"
        )
    _require_inside(path, index, split)
    loaded: np.ndarray[tuple[int], np.dtype[np.void]] = index
    return loaded


def _require_inside(path: Path, index: np.ndarray[tuple[int], np.dtype[np.void]], split: ShardedSplit) -> None:
    """Raise where a row points behind the end of a shard, or at a shard that there is not."""
    ends = np.array([shard.bytes for shard in split.shards], dtype=np.uint64)
    # By itself, for a sum could be larger than a number; a row of no shard has no end.
    end = np.zeros(len(index), dtype=np.uint64)
    is_known = index["shard"] < len(ends)
    end[is_known] = ends[index["shard"][is_known]]
    is_inside = is_known & (index["offset"] <= end) & (index["size"] <= end - np.minimum(index["offset"], end))
    if not is_inside.all():
        row = int(np.flatnonzero(~is_inside)[0])
        shard, offset, size = (int(index[row][name]) for name in ("shard", "offset", "size"))
        raise DatasetError(
            f"{path}: row {row} is no image of this set: {size} bytes from {offset} on of shard {shard}, "
            f"{f'which has {int(end[row])} bytes' if is_known[row] else f'and there are {len(ends)}'} → {_AGAIN}"
        )


def _require_size(path: Path, size: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror} → {_AGAIN}") from error
    if found != size:
        what = "was cut off" if found < size else "was added to"
        raise DatasetError(f"{path}: {what}: it has {found} bytes, and the shard set expects {size} → {_AGAIN}")


def _close(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def _open_shard(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    # What stands behind an image is not the next one that is read.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    return descriptor


def _reserve_descriptors(shards: int) -> int:
    """Raise this process's limit of open files where it is too low, and return how many shards may stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = shards + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return shards if soft == resource.RLIM_INFINITY else max(0, min(shards, soft - _OTHER_DESCRIPTORS))
