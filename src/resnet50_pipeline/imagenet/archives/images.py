"""Indexes the images in an archive by path and position, so that they can be read without unpacking.

ILSVRC2012_img_train.tar, byte 1536, 13697 bytes      n01440764/n01440764_26.JPEG
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.archives.parts import ArchivePart, find_archive_parts, list_images
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.worker_pool import count_workers, map_in_processes
from resnet50_pipeline.text import pluralize

logger = logging.getLogger(__name__)

# Below this size, starting processes takes longer than reading the headers. There is one header per image, and the
# average image size is 110 kB.
_MIN_BYTES_FOR_POOL = 4_000_000_000


@dataclass(frozen=True, eq=False)
class ArchivedImages:
    """The images in the archives of one split, in archive order. Only the headers have been read.

    Attributes:
        source: the archive, or the folder of class archives.
        files: the archive files.
        names: [N] POSIX paths below the split's folder.
        file_numbers: [N] int32, index into `files`.
        offsets: [N] int64, position of the first byte in the archive file.
        sizes: [N] int64, bytes.
        mtimes: [N] int64, modification times recorded in the archive, nanoseconds since 1970.
    """

    source: Path
    files: tuple[Path, ...]
    names: tuple[str, ...]
    file_numbers: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]

    @property
    def display_name(self) -> str:
        """Name used in messages."""
        return str(self.source)

    @property
    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Path, size and modification time of each archive. Cached results are valid until an archive changes."""
        found = [(file, file.stat()) for file in self.files]
        return [(str(file.resolve()), status.st_size, status.st_mtime_ns) for file, status in found]

    def list_class_folders(self) -> list[str]:
        """Return the sorted names of the class folders."""
        return sorted(folder for folder in self._names_by_folder if folder)

    def list_file_names(self, folder: str = "") -> Sequence[str]:
        """Return the file names in a class folder, or outside all class folders if `folder` is empty."""
        return self._names_by_folder.get(folder, [])

    def find_nested_images(self, folder: str) -> Sequence[str]:
        """Return an empty sequence, because indexing rejects archives with deeper folders."""
        return ()

    def read(self, name: str) -> bytes:
        """Return the bytes of the image `name`, which must be in `names`."""
        row = self._row_of_name[name]
        path = self.files[int(self.file_numbers[row])]
        with path.open("rb") as file:
            file.seek(int(self.offsets[row]))
            return file.read(int(self.sizes[row]))

    @cached_property
    def _row_of_name(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def _names_by_folder(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for path in self.names:
            folder, _, name = path.rpartition("/")
            names.setdefault(folder, []).append(name)
        return names


def index_archives(archives: Mapping[Split, Path], workers: int = 0) -> dict[Split, ArchivedImages]:
    """Index the images in the archives of each split by reading the headers.

    Args:
        archives: archives, keyed by split; see `archives.parts.find_archive_parts`.
        workers: number of reader processes; 0 means one per core.

    Raises:
        DatasetError: if an archive is missing or truncated, or if a member would be written outside the split's folder,
            is not a regular file, or has the same name as another member.
    """
    return {split: _index(split, path, workers) for split, path in archives.items()}


def read_image(root: Path, archived: Mapping[Split, ArchivedImages], path: str) -> bytes:
    """Return the bytes of an image, from an archive or from a separate file.

    Args:
        root: dataset folder.
        archived: images in archives, keyed by split.
        path: path of the image relative to `root`, as in the manifest.

    Raises:
        OSError: if the file cannot be read.
    """
    split, _, name = path.partition("/")
    images = next((images for archive_split, images in archived.items() if archive_split == split), None)
    return (root / path).read_bytes() if images is None else images.read(name)


def require_class_archive(part: ArchivePart) -> None:
    """Raise an error if the train archive contains images outside class folders, which suggests the val archive.

    Raises:
        DatasetError: if the archive contains images outside class folders.
    """
    first = None if part.folder else next(list_images(part), None)
    if first is not None and "/" not in first.name:
        raise DatasetError(
            f"{part.path}: the train archive contains images outside class folders ({first.name}) → "
            "check that this is not the val archive"
        )


_Rows: TypeAlias = "tuple[int, list[str], array[int], array[int], array[int]]"


def _index(split: Split, path: Path, workers: int) -> ArchivedImages:
    parts = find_archive_parts(path, f"dataset.{split}_archive")
    if split == "train":
        require_class_archive(parts[0])
    files = tuple(dict.fromkeys(part.path for part in parts))
    number_of_file = {file: number for number, file in enumerate(files)}
    names: list[str] = []
    file_numbers: list[NDArray[np.int32]] = []
    columns: list[tuple[NDArray[np.int64], ...]] = []
    skipped_count = 0
    for part, (skipped, found, *numbers) in zip(parts, _list_parts(parts, count_workers(workers)), strict=True):
        skipped_count += skipped
        names += found
        file_numbers.append(np.full(len(found), number_of_file[part.path], np.int32))
        columns.append(tuple(np.frombuffer(one, np.int64) for one in numbers))
    if skipped_count:
        logger.warning("%s: skipped %s that macOS added (._name, .DS_Store)", path, pluralize(skipped_count, "member"))
    offsets, sizes, mtimes = (np.concatenate(column) for column in zip(*columns, strict=True))
    return ArchivedImages(path, files, tuple(names), np.concatenate(file_numbers), offsets, sizes, mtimes)


def _list_parts(parts: Sequence[ArchivePart], workers: int) -> Iterator[_Rows]:
    if workers == 1 or sum(part.size for part in parts) < _MIN_BYTES_FOR_POOL:
        return map(_list_part, parts)
    return map_in_processes(_list_part, parts, workers)


def _list_part(part: ArchivePart) -> _Rows:
    skipped: list[str] = []
    members = list(list_images(part, skipped))
    return (
        len(skipped),
        [member.name for member in members],
        array("q", [member.offset for member in members]),
        array("q", [member.size for member in members]),
        array("q", [member.mtime_ns for member in members]),
    )
