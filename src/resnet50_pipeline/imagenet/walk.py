"""Which files are below the split folders, how large they are and when they were changed: `scan.level: structure`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet import folder_walk
from resnet50_pipeline.imagenet.archived_images import ArchivedImages
from resnet50_pipeline.imagenet.folder_walk import NOT_A_FILE, Found, walk_folders
from resnet50_pipeline.imagenet.list_files import Split

# With fewer folders, starting a process takes longer than it saves.
_FOLDERS_WORTH_A_PROCESS = 100
_MAX_WALKERS = 8


@dataclass(frozen=True, eq=False)
class WalkedFiles:
    """Everything below the split folders that is not a folder, in no particular order.

    Attributes:
        paths: [N] strings, relative to the dataset root.
        sizes: [N] int64, bytes.
        mtimes: [N] int64, nanoseconds since 1970; -1 where it is no regular file (a link, a FIFO, a device).
        archives: files that have the bytes of those that are no files of their own.
        file_numbers: [N] int32, which of `archives` has its bytes; -1 for a file of its own.
        offsets: [N] int64, of its first byte in there.
    """

    paths: pa.LargeStringArray
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]
    archives: tuple[Path, ...]
    file_numbers: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @property
    def is_file(self) -> NDArray[np.bool_]:
        """[N] whether it is a regular file below the root, reached without following a link."""
        return np.not_equal(self.mtimes, NOT_A_FILE)


def walk_splits(root: Path, splits: Sequence[str], workers: int) -> WalkedFiles:
    """Walk the split folders of a dataset and stat every file, without opening any.

    Args:
        root: dataset root, with symbolic links resolved.
        splits: train, val. One that is a symbolic link is walked, but nothing in it counts as a regular file below
            the root: each of its images is to be looked at by itself.
        workers: processes that walk, at most.

    Raises:
        DatasetError: a folder cannot be read.
    """
    try:
        parts = [_walk_split(root, split, workers) for split in splits]
    except OSError as error:
        raise DatasetError(f"{error.filename or root}: {error.strerror} → make the folder readable") from error
    names = b"\0".join(part[0] for part in parts if part[0])
    nothing = np.zeros(0, np.int64)
    sizes, mtimes = (np.concatenate([nothing, *(part[index] for part in parts)]) for index in (1, 2))
    count = len(sizes)
    loose = np.full(count, -1, np.int32)
    return WalkedFiles(_split_at_nul(names, count), sizes, mtimes, (), loose, np.zeros(count, np.int64))


def add_archived(walked: WalkedFiles, archived: Mapping[Split, ArchivedImages]) -> WalkedFiles:
    """Return what was walked and what is in archives, the paths of which are those that they would be unpacked to."""
    for split, images in archived.items():
        names = "".join([f"{split}/{name}\0" for name in images.names])[:-1].encode()
        walked = WalkedFiles(
            pa.concat_arrays([walked.paths, _split_at_nul(names, len(images.names))]),
            np.concatenate([walked.sizes, images.sizes]),
            np.concatenate([walked.mtimes, images.mtimes]),
            (*walked.archives, *images.files),
            np.concatenate([walked.file_numbers, images.file_numbers + np.int32(len(walked.archives))]),
            np.concatenate([walked.offsets, images.offsets]),
        )
    return walked


_Part = tuple[bytes, NDArray[np.int64], NDArray[np.int64]]


def _walk_split(root: Path, split: str, workers: int) -> _Part:
    base = f"{root}/"
    folders = [f"{split}/{entry.name}/" for entry in os.scandir(root / split) if entry.is_dir(follow_symlinks=False)]
    folders.sort()
    workers = min(workers, _MAX_WALKERS, len(folders) // _FOLDERS_WORTH_A_PROCESS)
    walkers = [_start_walker(base, folders[number::workers]) for number in range(workers)] if workers > 1 else []
    top = Found()
    _add_files_of(root, split, top)
    if not walkers:
        walk_folders(base, folders, top)
    parts = [_unpack(top.pack()), *(_finish_walker(walker) for walker in walkers)]
    sizes, mtimes = (np.concatenate([part[index] for part in parts]) for index in (1, 2))
    if (root / split).is_symlink():
        mtimes = np.full_like(mtimes, NOT_A_FILE)
    return b"\0".join(part[0] for part in parts if part[0]), sizes, mtimes


def _add_files_of(root: Path, split: str, found: Found) -> None:
    """Add the files that lie in the split folder itself, as those of ImageNet's flat val/ do."""
    with os.scandir(root / split) as entries:
        others = [entry for entry in entries if not entry.is_dir(follow_symlinks=False)]
    statuses = [entry.stat(follow_symlinks=False) for entry in others]
    found.add(f"{split}/", [entry.name for entry in others], statuses)


def _start_walker(base: str, folders: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", folder_walk.__file__, base]
    walker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert walker.stdin is not None  # noqa: S101 - it is a pipe
    walker.stdin.write(os.fsencode("\0".join(folders)))
    walker.stdin.close()
    walker.stdin = None
    return walker


def _finish_walker(walker: subprocess.Popen[bytes]) -> _Part:
    packed, errors = walker.communicate()
    if walker.returncode != 0:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2] or f"exit code {walker.returncode}"
        raise DatasetError(f"the folders could not be walked: {last} → make them readable")
    return _unpack(packed)


def _unpack(packed: bytes) -> _Part:
    """Return what `Found.pack` was given."""
    names_length, count = np.frombuffer(packed, np.int64, 2).tolist()
    sizes = np.frombuffer(packed, np.int64, count, 16 + names_length)
    mtimes = np.frombuffer(packed, np.int64, count, 16 + names_length + 8 * count)
    return packed[16 : 16 + names_length], sizes, mtimes


def _split_at_nul(names: bytes, count: int) -> pa.LargeStringArray:
    r"""Return the names, which are separated by NUL; one that is not UTF-8 has its wrong bytes written as \xNN."""
    if not count:
        return pa.array([], pa.large_string())
    try:
        names.decode()
    except UnicodeDecodeError:
        names = names.decode(errors="backslashreplace").encode()
    data = np.frombuffer(names + b"\0", np.uint8)
    offsets = np.zeros(count + 1, np.int64)
    offsets[1:] = np.flatnonzero(data == 0) - np.arange(count)
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data[data != 0]))
