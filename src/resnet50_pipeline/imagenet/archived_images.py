"""The images of a split that lie in archives: their paths, and where their bytes are, so that none need be unpacked.

ILSVRC2012_img_train.tar, byte 1536, 13697 bytes      n01440764/n01440764_26.JPEG
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.archives import ArchivePart, find_archive_parts, list_part
from resnet50_pipeline.imagenet.inspection_pool import count_workers, map_in_processes
from resnet50_pipeline.imagenet.list_files import Split

# With less to look through, starting processes takes longer than reading the headers: 110 kB an image.
_BYTES_WORTH_A_POOL = 4_000_000_000


@dataclass(frozen=True, eq=False)
class ArchivedImages:
    """What is in the archives of one split, in their order. Everything but the headers is still to be read.

    Attributes:
        source: the archive, or the folder of class archives.
        files: the archives.
        names: [N] POSIX paths below the split's folder.
        file_numbers: [N] int32, which of `files` it is in.
        offsets: [N] int64, of the first byte in that file.
        sizes: [N] int64, bytes.
        mtimes: [N] int64, that the archive gives, nanoseconds since 1970.
    """

    source: Path
    files: tuple[Path, ...]
    names: tuple[str, ...]
    file_numbers: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]

    @property
    def place(self) -> str:
        """How messages name it."""
        return str(self.source)

    @property
    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Path, size and time of change of each archive: while these stay, so does what is known of its images."""
        found = [(file, file.stat()) for file in self.files]
        return [(str(file.resolve()), status.st_size, status.st_mtime_ns) for file, status in found]

    def find_class_folders(self) -> list[str]:
        """Return the names of the class folders, sorted."""
        return sorted(folder for folder in self._names_by_folder if folder)

    def find_names(self, folder: str = "") -> Sequence[str]:
        """Return the names of the files in a class folder, or of those that lie in none."""
        return self._names_by_folder.get(folder, [])

    @cached_property
    def _names_by_folder(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for path in self.names:
            folder, _, name = path.rpartition("/")
            names.setdefault(folder, []).append(name)
        return names


def index_archives(archives: Mapping[Split, Path], workers: int = 0) -> dict[Split, ArchivedImages]:
    """Return what is in the archives of each split, by reading their headers.

    Args:
        archives: by split; see `imagenet.archives.find_archive_parts`.
        workers: processes that read; 0 means one a core.

    Raises:
        DatasetError: an archive is not there, cut off, or has a member that leads out of the split's folder, is no
            regular file, or has the name of another.
    """
    return {split: _index(split, path, workers) for split, path in archives.items()}


def require_class_archive(part: ArchivePart) -> None:
    """Make sure that the train archive has classes: the two archives are easily swapped.

    Raises:
        DatasetError: it has images without class folders.
    """
    first = None if part.folder else next(list_part(part), None)
    if first is not None and "/" not in first.name:
        raise DatasetError(
            f"{part.path}: has images without class folders ({first.name}), but is given as the train archive → is it "
            "the val archive?"
        )


_Rows: TypeAlias = "tuple[list[str], array[int], array[int], array[int]]"


def _index(split: Split, path: Path, workers: int) -> ArchivedImages:
    parts = find_archive_parts(path)
    if split == "train":
        require_class_archive(parts[0])
    files = tuple(dict.fromkeys(part.path for part in parts))
    number_of_file = {file: number for number, file in enumerate(files)}
    names: list[str] = []
    file_numbers: list[NDArray[np.int32]] = []
    columns: list[tuple[NDArray[np.int64], ...]] = []
    for part, (found, *numbers) in zip(parts, _list_parts(parts, count_workers(workers)), strict=True):
        names += found
        file_numbers.append(np.full(len(found), number_of_file[part.path], np.int32))
        columns.append(tuple(np.frombuffer(one, np.int64) for one in numbers))
    offsets, sizes, mtimes = (np.concatenate(column) for column in zip(*columns, strict=True))
    return ArchivedImages(path, files, tuple(names), np.concatenate(file_numbers), offsets, sizes, mtimes)


def _list_parts(parts: Sequence[ArchivePart], workers: int) -> Iterator[_Rows]:
    if workers == 1 or sum(part.size for part in parts) < _BYTES_WORTH_A_POOL:
        return map(_list_part, parts)
    return map_in_processes(_list_part, parts, workers)


def _list_part(part: ArchivePart) -> _Rows:
    members = list(list_part(part))
    return (
        [member.name for member in members],
        array("q", [member.offset for member in members]),
        array("q", [member.size for member in members]),
        array("q", [member.mtime_ns for member in members]),
    )
